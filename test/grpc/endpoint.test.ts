import { assert, describe, it } from "@effect/vitest"
import * as Either from "effect/Either"
import { InvalidArgument } from "../../src/EtcdError.js"
import { parseEndpoints } from "../../src/internal/grpc/endpoint.js"

/** `target` with an `s` before it for TLS. */
const parse = (input: string | ReadonlyArray<string>, tls = false): ReadonlyArray<string> =>
  Either.getOrThrow(parseEndpoints(input, tls)).map(({ target, tls }) => tls ? `s ${target}` : target)

const names = (input: string | ReadonlyArray<string>): ReadonlyArray<string> =>
  Either.getOrThrow(parseEndpoints(input, false)).map(({ name }) => name)

const refusal = (input: string | ReadonlyArray<string>, tls = false): InvalidArgument => {
  const result = parseEndpoints(input, tls)
  if (Either.isRight(result)) throw new Error(`accepted ${JSON.stringify(input)}: ${JSON.stringify(result.right)}`)
  assert.instanceOf(result.left, InvalidArgument)
  assert.strictEqual(result.left.argument, "endpoints")
  return result.left
}

describe("endpoints", () => {
  it("take a host, with etcd's port by default", () => {
    assert.deepStrictEqual(parse("etcd"), ["dns:etcd:2379"])
    assert.deepStrictEqual(parse("etcd:1"), ["dns:etcd:1"])
    assert.deepStrictEqual(parse("etcd:65535"), ["dns:etcd:65535"])
    assert.deepStrictEqual(parse("etcd-0.etcd_headless.default.svc.:2379"), [
      "dns:etcd-0.etcd_headless.default.svc.:2379"
    ])
    assert.deepStrictEqual(parse("127.0.0.1"), ["dns:127.0.0.1:2379"])
    assert.deepStrictEqual(names("etcd"), ["etcd:2379"])
  })

  it("take IPv6 addresses, in brackets or without a port", () => {
    assert.deepStrictEqual(parse("[::1]:4001"), ["dns:[::1]:4001"])
    assert.deepStrictEqual(parse("[::1]"), ["dns:[::1]:2379"])
    assert.deepStrictEqual(parse("::1"), ["dns:[::1]:2379"])
    assert.deepStrictEqual(parse("http://[2001:db8::5]:2379"), ["dns:[2001:db8::5]:2379"])
    assert.deepStrictEqual(parse("[::ffff:10.0.0.1]:2379"), ["dns:[::ffff:10.0.0.1]:2379"])
    assert.deepStrictEqual(parse("[fe80::1%eth0]:2379"), ["dns:[fe80::1%eth0]:2379"])
    assert.deepStrictEqual(names("::1"), ["[::1]:2379"])
  })

  it("take URLs", () => {
    assert.deepStrictEqual(parse("http://etcd:2379"), ["dns:etcd:2379"])
    assert.deepStrictEqual(parse("https://etcd"), ["s dns:etcd:2379"])
    assert.deepStrictEqual(parse("HTTPS://etcd:2379/"), ["s dns:etcd:2379"])
    assert.deepStrictEqual(parse("unix:///run/etcd.sock"), ["unix:/run/etcd.sock"])
    assert.deepStrictEqual(parse("unixs:///run/etcd.sock"), ["s unix:/run/etcd.sock"])
    assert.deepStrictEqual(names("unix:///run/a@b.sock"), ["/run/a@b.sock"])
  })

  it("use TLS where the tls option is given and no scheme", () => {
    assert.deepStrictEqual(parse(["etcd", "https://other", "unix:///s"], true), [
      "s dns:etcd:2379",
      "s dns:other:2379",
      "s unix:/s"
    ])
    assert.match(refusal("http://etcd", true).problem, /contradicts the tls option/)
  })

  it("come as an array, separated by commas, or both; once each", () => {
    assert.deepStrictEqual(parse("a,b:1, http://c ,[::1]"), [
      "dns:a:2379",
      "dns:b:1",
      "dns:c:2379",
      "dns:[::1]:2379"
    ])
    assert.deepStrictEqual(parse(["a,b", "c"]), ["dns:a:2379", "dns:b:2379", "dns:c:2379"])
    assert.deepStrictEqual(parse(["a", "a:2379", "http://a:2379/", "b"]), ["dns:a:2379", "dns:b:2379"])
  })

  it.each(["", "  ", "a,", "a,,b", ","])("refuse an empty one: %j", (input) => {
    assert.match(refusal(input).problem, /must not be empty/)
  })

  it("refuse none at all", () => {
    assert.match(refusal([]).problem, /at least one/)
  })

  it.each([
    "a:0",
    "a:65536",
    "a:-1",
    "a:99999999",
    "a:",
    "a:port",
    "a:2379/path",
    "a:2379?x=1",
    "a: 2379",
    "http://a:0",
    "[::1]:0",
    "unix:/run/etcd.sock"
  ])("refuse a port that is none, and show it: %j", (input) => {
    const error = refusal(["good", input])
    assert.match(error.problem, /port must be a number from 1 to 65535/)
    assert.strictEqual(error.value, input)
    assert.include(error.message, JSON.stringify(input))
  })

  it.each([
    "a b",
    "a\tb",
    "a\u0000",
    "-a",
    "a..b",
    "a/path",
    "http://",
    "http:///",
    ":2379",
    "[::1",
    "[]:1",
    "[a]:1",
    "[::1]x",
    ":::::",
    "1:2:3",
    "[1:2]",
    "user:password"
  ])("refuse a host that is none, and show it: %j", (input) => {
    assert.strictEqual(refusal(input).value, input)
  })

  it.each(["ftp://a", "dns:///a", "ipv4://1.2.3.4", "etcd://a"])("refuse another scheme: %j", (input) => {
    const error = refusal(input)
    assert.match(error.problem, /scheme must be http, https or unix/)
    assert.strictEqual(error.value, input)
  })

  it("refuse a unix socket without an absolute path", () => {
    assert.match(refusal("unix://etcd.sock").problem, /absolute path/)
    assert.match(refusal("unix://").problem, /absolute path/)
  })

  it.each([
    "http://root:hidden@etcd:2379",
    "root:hidden@etcd",
    "ftp://root:hidden@etcd",
    "unix://root:hidden@etcd",
    "http://root:hid,hidden@etcd",
    "http://root:hidden/x@etcd",
    "http://root:hidden@etcd:0"
  ])("refuse credentials and do not show them: %j", (input) => {
    for (const tls of [true, false]) {
      for (const form of [input, [input], `good,${input}`]) {
        const error = refusal(form, tls)
        assert.match(error.problem, /auth option/)
        assert.notInclude(JSON.stringify([error, error.message, String(error)]), "hid")
      }
    }
  })
})
