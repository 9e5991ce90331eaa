/**
 * A real etcd server for tests: on free ports of 127.0.0.1, with a data folder of its own, that tests may stop, kill,
 * pause and bring back. Nothing of it is left when its scope closes or when the test process ends, however it ends.
 */
import { Context, Data, Effect, Layer } from "effect"
import type { Scope } from "effect"
import { mkdtemp, rm } from "node:fs/promises"
import * as Os from "node:os"
import * as Path from "node:path"
import type { ServerProcess } from "./etcd/process.js"
import { startProcess, startWatchdog, stopped } from "./etcd/process.js"
import { untilHealthy } from "./etcd/readiness.js"
import * as EtcdBinary from "./EtcdBinary.js"
import * as Etcdctl from "./Etcdctl.js"
import { freePort } from "./ports.js"

/** The server did not do what was asked of it; the message holds the end of its log. */
export class EtcdServerError extends Data.TaggedError("EtcdServerError")<{
  readonly message: string
  readonly cause?: unknown
}> {}

/** Certificates, as paths of PEM files. */
export interface TlsOptions {
  /** The server's certificate, for 127.0.0.1 and localhost. */
  readonly cert: string
  readonly key: string
  /** The authority that signed the certificates. */
  readonly ca: string
  /** Has the server ask clients for a certificate; `etcdctl` shows this one. */
  readonly client?: { readonly cert: string; readonly key: string } | undefined
}

/** How to start a server. */
export interface EtcdServerOptions {
  /** The version wanted. Default: `ETCD_VERSION`, else the one that {@link EtcdBinary.resolve} finds. */
  readonly version?: string | undefined
  /** More flags, for example `["--auth-token-ttl=2", "--max-request-bytes=4096"]`. */
  readonly flags?: ReadonlyArray<string> | undefined
  /** Flags for `etcdctl`, for example `["--user=root:secret"]`. */
  readonly etcdctlFlags?: ReadonlyArray<string> | undefined
  /** Serves clients over TLS. */
  readonly tls?: TlsOptions | undefined
  /** Whether writes wait for the disk. Default: `false` where the version can do without. */
  readonly fsync?: boolean | undefined
}

/** A server and what tests can do to it. */
export interface EtcdServerService {
  /** Where clients connect: `127.0.0.1:port`. */
  readonly endpoint: string
  readonly port: number
  readonly peerPort: number
  /** The same with `http://` or `https://`. */
  readonly url: string
  /** For example `3.5.16`. */
  readonly version: string
  /** The folder of its files; the data are in its sub-folder `data`. */
  readonly folder: string
  /** The process id of the current run. */
  readonly pid: Effect.Effect<number, EtcdServerError>
  /** The last lines that the current run printed. */
  readonly log: Effect.Effect<string>
  /** Waits until the server answers and has a leader. */
  readonly ready: Effect.Effect<void, EtcdServerError>
  /** Starts the server on the same ports and waits until it is ready. Its data are those that it had. */
  readonly start: Effect.Effect<void, EtcdServerError>
  /** Asks the server to end (SIGTERM) and waits for that; while streams are open, etcd takes about 7 s. */
  readonly stop: Effect.Effect<void>
  /** Ends the server at once (SIGKILL) and waits for that. */
  readonly kill: Effect.Effect<void>
  /** Stops the server and starts it again, with its data. */
  readonly restart: Effect.Effect<void, EtcdServerError>
  /** Stops its execution (SIGSTOP) and waits for that: connections stay open and nothing answers. */
  readonly pause: Effect.Effect<void>
  /** Lets a paused server go on (SIGCONT). */
  readonly resume: Effect.Effect<void>
  /** Removes its data; the server has to be stopped. */
  readonly wipe: Effect.Effect<void, EtcdServerError>
  /** Starts the server on the same ports as a new and empty one. */
  readonly startWithoutData: Effect.Effect<void, EtcdServerError>
  /** Runs `etcdctl` against this server and returns what it printed. */
  readonly etcdctl: (args: ReadonlyArray<string>) => Effect.Effect<string, Etcdctl.EtcdctlError>
  /** Starts an `etcdctl` that goes on running; the end of the scope kills it. */
  readonly startEtcdctl: (
    args: ReadonlyArray<string>
  ) => Effect.Effect<Etcdctl.EtcdctlProcess, Etcdctl.EtcdctlError, Scope.Scope>
}

/** The ports of one server. */
export interface Ports {
  readonly client: number
  readonly peer: number
  readonly metrics: number
}

/** Draws the ports of a server. */
export const drawPorts = async (): Promise<Ports> => ({
  client: await freePort(),
  peer: await freePort(),
  metrics: await freePort()
})

/** How long a start may take before it counts as failed; it covers a cluster that elects its leader. */
const startTimeout = 20_000

const clientFlags = (url: string, tls: TlsOptions | undefined): ReadonlyArray<string> => [
  `--listen-client-urls=${url}`,
  `--advertise-client-urls=${url}`,
  ...tls === undefined ? [] : [`--cert-file=${tls.cert}`, `--key-file=${tls.key}`],
  ...tls?.client === undefined ? [] : [`--trusted-ca-file=${tls.ca}`, "--client-cert-auth"]
]

const etcdctlFlags = (tls: TlsOptions | undefined): ReadonlyArray<string> => [
  ...tls === undefined ? [] : [`--cacert=${tls.ca}`],
  ...tls?.client === undefined ? [] : [`--cert=${tls.client.cert}`, `--key=${tls.client.key}`]
]

/** The lines of a log that are most likely to tell what went wrong. */
const excerpt = (log: string): string => {
  const lines = log.trim().split("\n")
  return lines.length <= 8 ? lines.join("\n") : [...lines.slice(0, 3), "...", ...lines.slice(-5)].join("\n")
}

/**
 * Makes one member of a cluster without starting it.
 *
 * @internal
 */
export const makeMember = (
  options: EtcdServerOptions & {
    readonly name: string
    readonly ports: Ports
    readonly cluster: string
  }
): Effect.Effect<EtcdServerService, EtcdServerError, Scope.Scope> =>
  Effect.gen(function*() {
    const { ports, tls } = options
    const binary = yield* Effect.tryPromise({
      try: () => EtcdBinary.resolve(options.version === undefined ? {} : { version: options.version }),
      catch: (cause) => new EtcdServerError({ message: cause instanceof Error ? cause.message : String(cause), cause })
    })
    const folder = yield* Effect.acquireRelease(
      Effect.promise(() => mkdtemp(Path.join(Os.tmpdir(), "effect-coord-etcd-"))),
      (path) => Effect.promise(() => rm(path, { recursive: true, force: true, maxRetries: 5 }))
    )
    const watchdog = yield* Effect.acquireRelease(
      Effect.sync(() => startWatchdog(folder)),
      (watchdog) => Effect.sync(() => watchdog.close())
    )
    const url = `${tls === undefined ? "http" : "https"}://127.0.0.1:${ports.client}`
    const data = Path.join(folder, "data")
    const args = [
      `--name=${options.name}`,
      `--data-dir=${data}`,
      ...clientFlags(url, tls),
      `--listen-peer-urls=http://127.0.0.1:${ports.peer}`,
      `--initial-advertise-peer-urls=http://127.0.0.1:${ports.peer}`,
      `--initial-cluster=${options.cluster}`,
      `--listen-metrics-urls=http://127.0.0.1:${ports.metrics}`,
      "--logger=zap",
      "--log-level=warn",
      ...binary.supportsNoFsync && options.fsync !== true ? ["--unsafe-no-fsync"] : [],
      ...options.flags ?? []
    ]
    const ctl = Etcdctl.make({
      program: binary.etcdctl,
      endpoints: [url],
      flags: [...etcdctlFlags(tls), ...options.etcdctlFlags ?? []]
    })

    let current: ServerProcess | undefined
    const fail = (message: string) =>
      new EtcdServerError({ message: `${message}\n${excerpt(current?.log() ?? "")}`.trim() })
    const isRunning = () => current !== undefined && current.isRunning()
    const signal = (name: NodeJS.Signals) => Effect.sync(() => current?.signal(name))
    const exited = Effect.promise(async () => current?.exited)
    const pause = Effect.zipRight(
      signal("SIGSTOP"),
      Effect.promise(async () => current?.pid === undefined ? undefined : stopped(current.pid))
    )

    const ready = Effect.promise((interrupted) => {
      const deadline = Date.now() + startTimeout
      return untilHealthy(ports.metrics, () => !interrupted.aborted && isRunning() && Date.now() < deadline)
    }).pipe(
      Effect.filterOrFail(
        (healthy) => healthy,
        () => fail(isRunning() ? "etcd does not become ready:" : "etcd is not running:")
      ),
      Effect.asVoid
    )
    const start = Effect.suspend(() => {
      if (isRunning()) {
        return fail("etcd is running already")
      }
      current = startProcess(binary.etcd, args, watchdog)
      return ready
    })
    const stop = Effect.all([signal("SIGCONT"), signal("SIGTERM"), exited], { discard: true })
    const kill = Effect.zipRight(signal("SIGKILL"), exited)
    const wipe = Effect.suspend(() =>
      isRunning()
        ? fail("etcd is running: its data cannot be removed")
        : Effect.promise(() => rm(data, { recursive: true, force: true }))
    )
    yield* Effect.addFinalizer(() => kill)

    return {
      endpoint: `127.0.0.1:${ports.client}`,
      port: ports.client,
      peerPort: ports.peer,
      url,
      version: binary.version,
      folder,
      pid: Effect.suspend(() =>
        isRunning() && current?.pid !== undefined ? Effect.succeed(current.pid) : fail("etcd is not running")
      ),
      log: Effect.sync(() => current?.log() ?? ""),
      ready,
      start,
      stop,
      kill,
      restart: Effect.zipRight(stop, start),
      pause,
      resume: signal("SIGCONT"),
      wipe,
      startWithoutData: Effect.zipRight(wipe, start),
      etcdctl: ctl.run,
      startEtcdctl: ctl.start
    }
  })

/** A server of the tests' own. */
export class EtcdServer extends Context.Tag("effect-coord/test/EtcdServer")<EtcdServer, EtcdServerService>() {}

/** Starts a server and waits until it is ready; the end of the scope kills it and removes its data. */
export const make = (
  options: EtcdServerOptions = {}
): Effect.Effect<EtcdServerService, EtcdServerError, Scope.Scope> =>
  Effect.gen(function*() {
    const ports = yield* Effect.promise(drawPorts)
    const cluster = `default=http://127.0.0.1:${ports.peer}`
    const server = yield* makeMember({ ...options, name: "default", ports, cluster })
    yield* server.start
    return server
  }).pipe(
    // Somebody else took a port between the draw and the start.
    Effect.retry({ times: 2, while: (error) => error.message.includes("address already in use") })
  )

/** A layer of one server for a suite. */
export const layer = (options: EtcdServerOptions = {}): Layer.Layer<EtcdServer, EtcdServerError> =>
  Layer.scoped(EtcdServer, make(options))
