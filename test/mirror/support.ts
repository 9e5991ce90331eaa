/** What the suites of mirrors share: all of them copy what is below `m/`. */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as Key from "../../src/Key.js"
import type * as Mirror from "../../src/Mirror.js"
import { TestEtcd } from "../../src/testing.js"
import { text } from "../support/memory.js"

export const range = Key.prefix("m/")

/** A change as a line of text. */
export const show = (change: Mirror.Change): string =>
  change._tag === "Put" ? `${text(change.kv.key)}=${text(change.kv.value)}` : `-${text(change.key)}`

/** With what there was before. */
export const showBoth = (change: Mirror.Change): string =>
  change.previous === undefined ? show(change) : `${show(change)} (${text(change.previous.value)})`

/** All that a mirror tells from now on. */
export const toldBy = (
  mirror: Mirror.Mirror,
  line: (change: Mirror.Change) => string
): Effect.Effect<ReadonlyArray<string>, never, Scope.Scope> =>
  Effect.suspend(() => {
    const told: Array<string> = []
    const reading = Stream.runForEach(mirror.changes, (change) => Effect.sync(() => told.push(line(change))))
    return Effect.as(Effect.forkScoped(reading), told)
  })

/** Puts one key, several times. */
export const put = (...values: ReadonlyArray<string>) =>
  Effect.flatMap(TestEtcd, (etcd) => Effect.forEach(values, (value) => etcd.putKey("m/a", value)))
