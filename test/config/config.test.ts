import { layer } from "@effect/vitest"
import { suite } from "./suite.js"
import { embedded, real } from "./support.js"

layer(embedded())("Config over the embedded etcd", suite)

layer(embedded({ namespace: "/tenant" }))("Config in a namespace", suite)

layer(real, { excludeTestServices: true, timeout: "30 seconds" })("Config over etcd", suite)
