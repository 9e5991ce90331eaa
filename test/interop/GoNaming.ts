/**
 * etcd's own naming client for gRPC, in Go (`go.etcd.io/etcd/client/v3/naming`), as another party in tests: built from the
 * sources that Debian's `golang-etcd-server-dev` brings. Where they or Go are missing, `isThere` says so.
 */
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Mailbox from "effect/Mailbox"
import type * as Scope from "effect/Scope"
import { execFile, spawn } from "node:child_process"
import { existsSync } from "node:fs"
import { mkdtemp, rm } from "node:fs/promises"
import * as Os from "node:os"
import * as Path from "node:path"
import { createInterface } from "node:readline"
import { fileURLToPath } from "node:url"

const sources = "/usr/share/gocode"

class Ended extends Data.TaggedError("Ended")<{ readonly message: string }> {}

const isOnPath = (program: string): boolean =>
  (process.env.PATH ?? "").split(Path.delimiter).some((folder) => existsSync(Path.join(folder, program)))

export const isThere = isOnPath("go") && existsSync(`${sources}/src/go.etcd.io/etcd/clientv3/naming/endpoints`)

export interface Endpoint {
  readonly Key: string
  readonly Addr: string
  readonly Metadata: unknown
}

export type Report =
  | { readonly _tag: "Done"; readonly op: Order["Op"] }
  | { readonly _tag: "Listed"; readonly endpoints: ReadonlyArray<Endpoint> }
  | { readonly _tag: "Updated"; readonly update: Endpoint & { readonly Op: "Add" | "Delete" } }
  | { readonly _tag: "Resolved"; readonly addresses: ReadonlyArray<string> }

type Order =
  | Endpoint & { readonly Op: "Add" }
  | { readonly Op: "Delete"; readonly Key: string }
  | { readonly Op: "List" | "Watch" | "Resolve" }

export interface GoNaming {
  /** `Manager.AddEndpoint` */
  readonly add: (endpoint: Endpoint) => Effect.Effect<void>
  /** `Manager.DeleteEndpoint` */
  readonly delete: (key: string) => Effect.Effect<void>
  /** `Manager.List` */
  readonly list: Effect.Effect<ReadonlyArray<Endpoint>>
  /** `Manager.NewWatchChannel`: `next` gives its updates. */
  readonly watch: Effect.Effect<void>
  /** The resolver of `etcd:///<target>`: `next` gives what it tells gRPC. */
  readonly resolve: Effect.Effect<void>
  readonly next: Effect.Effect<Report>
}

/** The program, built once. */
export class Program extends Context.Tag("effect-coord/test/interop/GoNaming")<Program, string>() {}

export const program: Layer.Layer<Program> = Layer.scoped(
  Program,
  Effect.gen(function*() {
    const folder = yield* Effect.acquireRelease(
      Effect.promise(() => mkdtemp(Path.join(Os.tmpdir(), "effect-coord-naming-"))),
      (folder) => Effect.promise(() => rm(folder, { recursive: true, force: true }))
    )
    const program = Path.join(folder, "naming")
    const main = fileURLToPath(new URL("./fixtures/naming/main.go", import.meta.url))
    yield* Effect.async<void>((resume) => {
      execFile(
        "go",
        ["build", "-o", program, main],
        { env: { ...process.env, GO111MODULE: "off", GOPATH: sources, GOFLAGS: "" } },
        (error, _, stderr) => resume(error === null ? Effect.void : Effect.dieMessage(stderr))
      )
    })
    return program
  })
)

/** A process of its own; the end of the scope ends it. */
export const start = (
  endpoint: string,
  target: string
): Effect.Effect<GoNaming, never, Program | Scope.Scope> =>
  Effect.gen(function*() {
    const program = yield* Program
    const reports = yield* Mailbox.make<Report, Ended>()
    const child = yield* Effect.acquireRelease(
      // It ends with its input, and so with this process.
      Effect.sync(() => spawn(program, [endpoint, target], { stdio: ["pipe", "pipe", "pipe"] })),
      (child) => Effect.sync(() => child.kill("SIGKILL"))
    )
    let log = ""
    child.stderr.setEncoding("utf8").on("data", (chunk: string) => {
      log += chunk
    })
    child.stdin.on("error", () => {})
    child.once("close", () => reports.unsafeDone(Exit.fail(new Ended({ message: `the Go program has ended: ${log}` }))))
    createInterface({ input: child.stdout }).on("line", (line) => reports.unsafeOffer(JSON.parse(line) as Report))

    const next = Effect.timeout(reports.take, "20 seconds").pipe(Effect.orDie)
    const send = (order: Order) => Effect.sync(() => void child.stdin.write(`${JSON.stringify(order)}\n`))
    const carryOut = (order: Order): Effect.Effect<void> =>
      Effect.zipRight(
        send(order),
        Effect.flatMap(
          next,
          (report) => report._tag === "Done" && report.op === order.Op ? Effect.void : Effect.die(report)
        )
      )
    return {
      add: (endpoint) => carryOut({ Op: "Add", ...endpoint }),
      delete: (Key) => carryOut({ Op: "Delete", Key }),
      list: Effect.zipRight(
        send({ Op: "List" }),
        Effect.flatMap(
          next,
          (report) => report._tag === "Listed" ? Effect.succeed(report.endpoints) : Effect.die(report)
        )
      ),
      watch: carryOut({ Op: "Watch" }),
      resolve: carryOut({ Op: "Resolve" }),
      next
    }
  })
