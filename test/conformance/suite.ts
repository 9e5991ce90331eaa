/**
 * The behaviours of etcd that this library relies on, stated once and run over every backend.
 */
import { describe, layer } from "@effect/vitest"
import type * as Layer from "effect/Layer"
import type { Backend } from "./Backend.js"
import { badNumbers } from "./suites/badNumbers.js"
import { compares } from "./suites/compares.js"
import { leases } from "./suites/leases.js"
import { maintenance } from "./suites/maintenance.js"
import { namespaces } from "./suites/namespaces.js"
import { ranges } from "./suites/ranges.js"
import { transactions } from "./suites/transactions.js"
import { watches } from "./suites/watches.js"
import { watchStreams } from "./suites/watchStreams.js"
import { writes } from "./suites/writes.js"
import type { It } from "./support.js"

const suites: Record<string, (it: It) => void> = {
  ranges,
  writes,
  compares,
  transactions,
  leases,
  watches,
  "watch streams": watchStreams,
  maintenance,
  namespaces,
  "numbers that cannot be sent": badNumbers
}

/**
 * @param time `real` for servers; `test` puts the backend and its tests under one `TestClock`
 */
export const conformance = <E>(name: string, backend: Layer.Layer<Backend, E>, time: "real" | "test"): void =>
  layer(backend, { excludeTestServices: time === "real", timeout: "60 seconds" })(name, (it) => {
    for (const [title, suite] of Object.entries(suites)) describe(title, () => suite(it))
  })
