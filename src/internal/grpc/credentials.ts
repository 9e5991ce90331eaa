/**
 * TLS as grpc-js credentials. Certificates given as files are read again when they change, so that a rotation needs no
 * restart: connections made afterwards use the new ones.
 */
import * as grpc from "@grpc/grpc-js"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import { X509Certificate } from "node:crypto"
import { readFileSync } from "node:fs"
import { readFile } from "node:fs/promises"
import { createSecureContext, rootCertificates } from "node:tls"
import { InvalidArgument } from "../../EtcdError.js"

/** A PEM text, or the path of a file that holds one. */
export type Pem = string | Uint8Array | Redacted.Redacted<string | Uint8Array> | { readonly file: string }

export interface TlsOptions {
  /** Authorities to trust; those of Node by default. */
  readonly ca?: Pem | undefined
  /** The client's certificate (chain); needs `key`. */
  readonly cert?: Pem | undefined
  /** The private key of `cert`. */
  readonly key?: Pem | undefined
  /** The name the server's certificate must carry, when it is not the endpoint's host. */
  readonly serverName?: string | undefined
}

/** How often files are looked at. */
const refreshIntervalMs = 5_000

const isFile = (pem: Pem): pem is { readonly file: string } =>
  typeof pem === "object" && "file" in pem && typeof pem.file === "string"

const bytesOf = (pem: Exclude<Pem, { readonly file: string }>): Buffer => {
  const value = Redacted.isRedacted(pem) ? Redacted.value(pem) : pem
  return typeof value === "string" ? Buffer.from(value, "utf8") : Buffer.from(value)
}

const refuse = (option: string, pem: Pem, problem: string): InvalidArgument =>
  new InvalidArgument({ argument: option, ...(isFile(pem) ? { value: pem.file } : {}), problem })

const read = (option: string, pem: Pem): Effect.Effect<Buffer, InvalidArgument> =>
  isFile(pem)
    ? Effect.tryPromise({
      try: () => readFile(pem.file),
      catch: () => refuse(option, pem, "the file cannot be read")
    })
    : Effect.succeed(bytesOf(pem))

const readCertificate = (option: string, pem: Pem): Effect.Effect<Buffer, InvalidArgument> =>
  Effect.tap(read(option, pem), (bytes) =>
    Effect.try({
      try: () => void new X509Certificate(bytes),
      catch: () => refuse(option, pem, "not a PEM certificate")
    }))

/** What Node trusts: its own list, and the file that the environment adds to it. */
const nodeAuthorities = (): Buffer => {
  const file = process.env.NODE_EXTRA_CA_CERTS
  let extra = ""
  try {
    if (file !== undefined && file !== "") extra = readFileSync(file, "utf8")
  } catch {
    // As Node does, which warns of it at its start.
  }
  return Buffer.from([...rootCertificates, extra].join("\n"))
}

const caProvider = (ca: Pem | undefined): grpc.experimental.CertificateProvider => {
  if (ca !== undefined && isFile(ca)) {
    return new grpc.experimental.FileWatcherCertificateProvider({ caCertificateFile: ca.file, refreshIntervalMs })
  }
  const caCertificate = ca === undefined ? nodeAuthorities() : bytesOf(ca)
  return {
    addCaCertificateListener: (listener) => process.nextTick(listener, { caCertificate }),
    removeCaCertificateListener: () => {},
    addIdentityCertificateListener: () => {},
    removeIdentityCertificateListener: () => {}
  }
}

const identityProvider = (cert: Pem, key: Pem): grpc.experimental.CertificateProvider => {
  if (isFile(cert) && isFile(key)) {
    return new grpc.experimental.FileWatcherCertificateProvider({
      certificateFile: cert.file,
      privateKeyFile: key.file,
      refreshIntervalMs
    })
  }
  if (isFile(cert) || isFile(key)) throw new Error("unreachable: mixed forms are refused before")
  const identity = { certificate: bytesOf(cert), privateKey: bytesOf(key) }
  return {
    addCaCertificateListener: () => {},
    removeCaCertificateListener: () => {},
    addIdentityCertificateListener: (listener) => process.nextTick(listener, identity),
    removeIdentityCertificateListener: () => {}
  }
}

const checkIdentity = (certificate: Pem, privateKey: Pem): Effect.Effect<void, InvalidArgument> =>
  Effect.gen(function*() {
    const cert = yield* readCertificate("tls.cert", certificate)
    const key = yield* read("tls.key", privateKey)
    yield* Effect.try({
      try: () => void createSecureContext({ cert, key }),
      catch: () => refuse("tls.key", privateKey, "not a PEM key that belongs to tls.cert")
    })
  })

/** Fails with the option that cannot work: an unreadable file, a text that is no PEM, a key without its certificate. */
export const makeCredentials = (
  tls: TlsOptions
): Effect.Effect<grpc.ChannelCredentials, InvalidArgument> =>
  Effect.gen(function*() {
    const { ca, cert, key, serverName } = tls
    if (serverName === "") {
      return yield* new InvalidArgument({ argument: "tls.serverName", value: "", problem: "must not be empty" })
    }
    if ((cert === undefined) !== (key === undefined)) {
      const missing = cert === undefined ? "tls.cert" : "tls.key"
      return yield* new InvalidArgument({ argument: missing, problem: "tls.cert and tls.key go together" })
    }
    if (cert !== undefined && key !== undefined && isFile(cert) !== isFile(key)) {
      return yield* new InvalidArgument({
        argument: "tls.key",
        problem: "give cert and key both as files or both as PEM"
      })
    }
    if (ca !== undefined) yield* readCertificate("tls.ca", ca)
    if (cert !== undefined && key !== undefined) yield* checkIdentity(cert, key)
    return grpc.experimental.createCertificateProviderChannelCredentials(
      caProvider(ca),
      cert === undefined || key === undefined ? null : identityProvider(cert, key)
    )
  })
