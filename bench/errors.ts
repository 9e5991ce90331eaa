import { Data } from "effect"

/** A run, or a part of it, that did not work out. */
export class BenchError extends Data.TaggedError("BenchError")<{ readonly message: string }> {}

export const fail = (message: string): BenchError => new BenchError({ message })

/** For what was thrown. */
export const because = (cause: unknown): BenchError => fail(cause instanceof Error ? cause.message : String(cause))
