/** An etcd over mutual TLS, and the files of those who may talk to it and those who may not. */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { mkdtemp, rm, writeFile } from "node:fs/promises"
import * as Os from "node:os"
import * as Path from "node:path"
import * as Certificates from "../support/certificates.js"
import * as EtcdServer from "../support/EtcdServer.js"

/** The paths of a certificate and its key. */
export interface Files {
  readonly cert: string
  readonly key: string
}

export const folder: Effect.Effect<string, never, Scope.Scope> = Effect.acquireRelease(
  Effect.promise(() => mkdtemp(Path.join(Os.tmpdir(), "effect-coord-tls-"))),
  (path) => Effect.promise(() => rm(path, { recursive: true, force: true }))
)

export const write = (path: string, content: string) => Effect.promise(() => writeFile(path, content))

export const writeCertificate = (
  folder: string,
  name: string,
  { cert, key }: Certificates.Certificate
): Effect.Effect<Files> => {
  const files = { cert: Path.join(folder, `${name}.pem`), key: Path.join(folder, `${name}.key`) }
  return Effect.as(Effect.zipRight(write(files.cert, cert), write(files.key, key)), files)
}

export const make = (options: { readonly clientCertificates?: boolean; readonly hosts?: ReadonlyArray<string> } = {}) =>
  Effect.gen(function*() {
    const path = yield* folder
    const authority = Certificates.authority("effect-coord test authority")
    const ca = Path.join(path, "ca.pem")
    yield* write(ca, authority.cert)
    const own = yield* writeCertificate(path, "server", authority.issue("server", options.hosts))
    const identity = authority.issue("client")
    const client = yield* writeCertificate(path, "client", identity)
    const strangers = Certificates.authority("another authority")
    const stranger = yield* writeCertificate(path, "stranger", strangers.issue("stranger"))
    const server = yield* EtcdServer.make({
      tls: { ...own, ca, client: options.clientCertificates === false ? undefined : client }
    })
    return { server, authority, identity, strangers, folder: path, tls: { ca, client, stranger } }
  })
