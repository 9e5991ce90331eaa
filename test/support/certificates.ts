/**
 * Certificates for tests, made on the spot with nothing but Node: X.509 version 3, on the curve P-256.
 */
import type { KeyObject } from "node:crypto"
import { generateKeyPairSync, randomBytes, sign } from "node:crypto"

/** A certificate and its private key, as PEM. */
export interface Certificate {
  readonly cert: string
  readonly key: string
}

/** An authority, which may issue certificates for servers and clients. */
export interface Authority extends Certificate {
  /**
   * A certificate for the names and IPv4 addresses in `hosts`, by default `localhost` and `127.0.0.1`. Its common name is
   * what etcd takes for the user where it authenticates by certificate.
   */
  readonly issue: (commonName: string, hosts?: ReadonlyArray<string>) => Certificate
}

/** One value of the encoding DER: its tag, its length, its content. */
const der = (tag: number, ...content: ReadonlyArray<Uint8Array>): Buffer => {
  const body = Buffer.concat(content)
  const size = body.length < 0x80
    ? [body.length]
    : body.length < 0x100
    ? [0x81, body.length]
    : [0x82, body.length >> 8, body.length & 0xff]
  return Buffer.concat([Buffer.from([tag, ...size]), body])
}

const sequence = (...content: ReadonlyArray<Uint8Array>) => der(0x30, ...content)
const bits = (bytes: Uint8Array, unused = 0) => der(0x03, Buffer.from([unused]), bytes)
const octets = (...content: ReadonlyArray<Uint8Array>) => der(0x04, ...content)
const yes = der(0x01, Buffer.from([0xff]))
const oid = (hex: string) => der(0x06, Buffer.from(hex, "hex"))

const ecdsaWithSha256 = sequence(oid("2a8648ce3d040302"))
const commonName = (name: string) => sequence(der(0x31, sequence(oid("550403"), der(0x0c, Buffer.from(name)))))
/** From 2020 to 2049, which is as far as this form of a date goes. */
const validity = sequence(der(0x17, Buffer.from("200101000000Z")), der(0x17, Buffer.from("491231235959Z")))

const extension = (id: string, critical: boolean, value: Uint8Array) =>
  sequence(oid(id), ...critical ? [yes] : [], octets(value))
const basicConstraints = (authority: boolean) => extension("551d13", true, authority ? sequence(yes) : sequence())
/** Signing of certificates, or of handshakes. */
const keyUsage = (authority: boolean) =>
  extension("551d0f", true, bits(Buffer.from([authority ? 0x04 : 0x80]), authority ? 2 : 7))
const serverAndClient = extension("551d25", false, sequence(oid("2b06010505070301"), oid("2b06010505070302")))
const alternativeNames = (hosts: ReadonlyArray<string>) =>
  extension(
    "551d11",
    false,
    sequence(...hosts.map((host) =>
      /^[\d.]+$/.test(host) ? der(0x87, Buffer.from(host.split(".").map(Number))) : der(0x82, Buffer.from(host))
    ))
  )

const pem = (label: string, bytes: Uint8Array) =>
  `-----BEGIN ${label}-----\n${
    Buffer.from(bytes).toString("base64").replace(/.{64}/g, "$&\n").trimEnd()
  }\n-----END ${label}-----\n`

const build = (
  subject: string,
  publicKey: KeyObject,
  issuer: string,
  issuerKey: KeyObject,
  extensions: ReadonlyArray<Uint8Array>
): string => {
  // Positive, and its first byte is not zero.
  const serial = Buffer.concat([Buffer.from([0x40]), randomBytes(15)])
  const content = sequence(
    der(0xa0, der(0x02, Buffer.from([2]))),
    der(0x02, serial),
    ecdsaWithSha256,
    commonName(issuer),
    validity,
    commonName(subject),
    publicKey.export({ type: "spki", format: "der" }),
    der(0xa3, sequence(...extensions))
  )
  return pem("CERTIFICATE", sequence(content, ecdsaWithSha256, bits(sign("sha256", content, issuerKey))))
}

const keys = () => generateKeyPairSync("ec", { namedCurve: "P-256" })
const keyText = (key: KeyObject) => key.export({ type: "pkcs8", format: "pem" }).toString()

/** A new authority, unlike any other even of the same name. */
export const authority = (name: string): Authority => {
  const { privateKey, publicKey } = keys()
  return {
    cert: build(name, publicKey, name, privateKey, [basicConstraints(true), keyUsage(true)]),
    key: keyText(privateKey),
    issue: (commonName, hosts = ["localhost", "127.0.0.1"]) => {
      const own = keys()
      return {
        cert: build(commonName, own.publicKey, name, privateKey, [
          basicConstraints(false),
          keyUsage(false),
          serverAndClient,
          alternativeNames(hosts)
        ]),
        key: keyText(own.privateKey)
      }
    }
  }
}
