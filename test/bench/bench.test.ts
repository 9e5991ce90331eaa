import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { mkdtemp, readFile, rm } from "node:fs/promises"
import * as Os from "node:os"
import * as Path from "node:path"
import type { Options } from "../../bench/options.js"
import { fromArguments, UsageError } from "../../bench/options.js"
import type { Slice, SliceResult } from "../../bench/peers/protocol.js"
import type { Peer } from "../../bench/processes.js"
import { together } from "../../bench/processes.js"
import { root, run } from "../../scripts/lib/project.js"

const bench = (args: ReadonlyArray<string>) =>
  run(process.execPath, ["--import", "tsx", Path.join(root, "bench", "main.ts"), ...args])

interface Row {
  readonly workload: string
  readonly inFlight: number
  readonly peer: string
  readonly opsPerSecond: number
  readonly p50Millis: number
  readonly p99Millis: number
  readonly cpuMicrosPerOperation: number
  readonly opsRatio?: { readonly min: number; readonly median: number; readonly max: number }
}

interface Results {
  readonly rows: ReadonlyArray<Row>
  readonly verdicts: ReadonlyArray<{ readonly text: string; readonly reached?: boolean }>
  readonly problems: ReadonlyArray<unknown>
  readonly promises: { readonly promised: ReadonlyArray<{ readonly text: string; readonly measured: string }> }
}

describe("the benchmark", () => {
  it("measures peers on an etcd of its own, prints a table and writes everything down", async () => {
    const folder = await mkdtemp(Path.join(Os.tmpdir(), "effect-coord-bench-"))
    try {
      const json = Path.join(folder, "results", "bench.json")
      const { code, stderr, stdout } = await bench([
        "--rounds=1",
        "--seconds=0.4",
        "--warm-up=0.1",
        "--in-flight=1,16",
        "--workloads=get,lock,watch,config-get,promises",
        "--peers=coord,bare",
        `--json=${json}`
      ])
      const output = `${stdout}\n${stderr}`
      assert.strictEqual(code, 0, output)
      const { problems, promises, rows, verdicts } = JSON.parse(await readFile(json, "utf8")) as Results
      assert.deepStrictEqual(problems, [], output)
      assert.deepStrictEqual(
        rows.map(({ inFlight, peer, workload }) => `${workload} ${inFlight} ${peer}`).sort(),
        [
          "get 1 bare",
          "get 1 coord",
          "get 16 bare",
          "get 16 coord",
          "lock 1 bare",
          "lock 1 coord",
          "lock 16 bare",
          "lock 16 coord",
          // One at a time; and this one only where there are hundreds.
          "watch 1 bare",
          "watch 1 coord"
        ]
      )
      for (const row of rows) {
        assert.isAbove(row.opsPerSecond, 0, output)
        assert.isAbove(row.p50Millis, 0, output)
        assert.isAtLeast(row.p99Millis, row.p50Millis, output)
        assert.isAbove(row.cpuMicrosPerOperation, 0, output)
        assert.strictEqual(row.opsRatio !== undefined, row.peer === "bare", "ratios are those of the others to us")
      }
      assert.strictEqual(verdicts.filter(({ reached }) => reached !== undefined).length, 3, output)
      assert.lengthOf(promises.promised, 9, output)
      for (const { measured, text } of promises.promised) assert.match(measured, /^[\d.,]*[1-9]/, text)
      assert.match(stdout, /^workload +in flight +peer/m)
      assert.match(stdout, /get, 1 in flight: p50 at most 1\.15 times that of bare +\d.* (OK|MISSED)/)
    } finally {
      await rm(folder, { recursive: true, force: true })
    }
  }, 120_000)

  it("refuses a command line that it does not understand, and says what is wrong with it", () => {
    for (
      const [argument, problem] of [
        ["--bogus", "--bogus"],
        ["more", "more"],
        ["--peers=coord,nobody", "\"nobody\""],
        ["--workloads=get,nothing", "\"nothing\""],
        ["--in-flight=", "--in-flight"],
        ["--rounds=0", "--rounds"],
        ["--seconds=soon", "\"soon\""],
        ["--peers=before", "--before"]
      ]
    ) {
      assert.throws(() => fromArguments([argument]), UsageError, problem)
    }
  })

  it("has defaults, and one option for nothing but the promises", () => {
    const { peers, promises, workloads } = fromArguments([]) as Options
    assert.includeMembers([...peers], ["coord", "bare", "etcd3", "go"])
    assert.deepStrictEqual(workloads, ["get", "config-get", "put", "watch", "lock", "contended", "contended-apart"])
    assert.strictEqual(promises, "quick")
    const all = fromArguments(["--promises"]) as Options
    assert.deepStrictEqual(all.workloads, [])
    assert.strictEqual(all.promises, "all")
  })
})

describe("several processes as one peer", () => {
  const slice: Slice = { workload: "w", inFlight: 6, warmUpSeconds: 0, seconds: 1, name: "n" }
  const part = (asked: Array<number>, turns: SliceResult["turns"]): Peer => ({
    name: "p",
    workloads: ["w"],
    warmsUp: true,
    run: ({ inFlight }) => {
      asked.push(inFlight)
      return Effect.succeed({ operations: 2, seconds: 1, cpuMicros: 10, latencies: {}, figures: {}, turns })
    }
  })

  it("share what is in flight, and are measured from the end of one turn to the begin of the next", async () => {
    const asked: Array<number> = []
    const parts = [
      part(asked, [{ token: 1, begin: 10, end: 11 }, { token: 4, begin: 40, end: 41 }]),
      part(asked, [{ token: 2, begin: 13, end: 14 }]),
      part(asked, []),
      part(asked, [])
    ]
    const { cpuMicros, latencies, operations } = await Effect.runPromise(together(parts).run(slice))
    assert.deepStrictEqual(asked, [2, 2, 1, 1])
    assert.deepStrictEqual([operations, cpuMicros], [8, 40])
    assert.deepInclude(latencies["hand-over"], { count: 2, p50: 2, max: 26 })
    asked.length = 0
    await Effect.runPromise(together(parts).run({ ...slice, inFlight: 2 }))
    assert.deepStrictEqual(asked, [1, 1])
  })

  it("are found out when two held the lock at once", async () => {
    const parts = [part([], [{ token: 1, begin: 1, end: 5 }]), part([], [{ token: 2, begin: 4, end: 6 }])]
    const error = await Effect.runPromise(Effect.flip(together(parts).run(slice)))
    assert.include(error.message, "two held the lock")
  })
})
