import { etcd } from "./Backend.js"
import { conformance } from "./suite.js"

conformance("etcd 3.5", etcd("3.5"), "real")
