import { etcd } from "./Backend.js"
import { conformance } from "./suite.js"

conformance("etcd 3.4", etcd("3.4"), "real")
