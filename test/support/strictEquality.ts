/**
 * Vitest's `deepStrictEqual` takes an `Option.none()` for equal to any `Option.some()`, as it only looks at what both have.
 */
import { assert } from "@effect/vitest"
import { deepStrictEqual } from "node:assert"

assert.deepStrictEqual = deepStrictEqual
