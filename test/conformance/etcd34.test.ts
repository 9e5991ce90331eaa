import { etcd } from "./Backend.js"
import { type Deviation, deviationsOf34 } from "./deviations.js"
import { conformance } from "./suite.js"

conformance("etcd 3.4", etcd("3.4", Object.keys(deviationsOf34) as Array<Deviation>), "real")
