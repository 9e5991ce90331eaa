import { etcd3 } from "./Backend.js"
import { conformance } from "./suite.js"

conformance("etcd 3.5 through etcd3", etcd3("3.5"), "real")
