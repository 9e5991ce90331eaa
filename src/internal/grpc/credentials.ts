/**
 * TLS as grpc-js credentials. Certificates given as files are read again when they change, so that a rotation needs no
 * restart: connections made afterwards use the new ones.
 */
import * as grpc from "@grpc/grpc-js"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import { access, constants } from "node:fs/promises"
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

const readable = (option: string, pem: Pem | undefined): Effect.Effect<void, InvalidArgument> =>
  pem === undefined || !isFile(pem)
    ? Effect.void
    : Effect.tryPromise({
      try: () => access(pem.file, constants.R_OK),
      catch: () => new InvalidArgument({ argument: option, value: pem.file, problem: "the file cannot be read" })
    })

const caProvider = (ca: Pem | undefined): grpc.experimental.CertificateProvider => {
  if (ca !== undefined && isFile(ca)) {
    return new grpc.experimental.FileWatcherCertificateProvider({ caCertificateFile: ca.file, refreshIntervalMs })
  }
  const caCertificate = ca === undefined ? Buffer.from(rootCertificates.join("\n")) : bytesOf(ca)
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

const parses = (
  option: string,
  problem: string,
  context: Parameters<typeof createSecureContext>[0]
): Effect.Effect<void, InvalidArgument> =>
  Effect.try({
    try: () => void createSecureContext(context),
    catch: () => new InvalidArgument({ argument: option, problem })
  })

/** Fails with the option that cannot work: an unreadable file, a text that is no PEM, a key without its certificate. */
export const makeCredentials = (
  tls: TlsOptions
): Effect.Effect<grpc.ChannelCredentials, InvalidArgument> =>
  Effect.gen(function*() {
    const { ca, cert, key } = tls
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
    yield* readable("tls.ca", ca)
    yield* readable("tls.cert", cert)
    yield* readable("tls.key", key)
    if (ca !== undefined && !isFile(ca)) {
      yield* parses("tls.ca", "not a PEM certificate", { ca: bytesOf(ca) })
    }
    if (cert !== undefined && key !== undefined && !isFile(cert) && !isFile(key)) {
      yield* parses("tls.key", "not a PEM key that belongs to tls.cert", { cert: bytesOf(cert), key: bytesOf(key) })
    }
    return grpc.experimental.createCertificateProviderChannelCredentials(
      caProvider(ca),
      cert === undefined || key === undefined ? null : identityProvider(cert, key)
    )
  })
