import { assert, describe, it } from "@effect/vitest"
import { commentExamples, markdownExamples } from "../../scripts/lib/examples.js"
import { protoSubset } from "../../scripts/lib/protoSubset.js"

describe("examples", () => {
  it("are the blocks of Markdown marked as TypeScript", () => {
    const source = [
      "# Title",
      "```ts",
      "const a = 1",
      "",
      "```",
      "```sh",
      "npm test",
      "```",
      "~~~typescript",
      "`${a}`",
      "```",
      "~~~",
      "```js",
      "```"
    ]
    assert.deepStrictEqual(markdownExamples("a.md", source.join("\n")), [
      { file: "a.md", line: 3, code: "const a = 1\n" },
      { file: "a.md", line: 10, code: "`${a}`\n```" }
    ])
  })

  it("are refused when a block is not closed", () => {
    assert.throws(() => markdownExamples("a.md", "x\n```ts\n"), /^a\.md:2: /)
  })

  it("are found in doc comments, with their line", () => {
    const source = [
      "/** One line. */",
      "export const a = 1",
      "/**",
      " * Text.",
      " *",
      " * @example",
      " * ```ts",
      " * if (a) {",
      " *   b()",
      " * }",
      " * ```",
      " */",
      "export const b = `",
      "```ts",
      "`",
      "```"
    ]
    assert.deepStrictEqual(commentExamples("a.ts", source.join("\n")), [
      { file: "a.ts", line: 8, code: "if (a) {\n  b()\n}" }
    ])
  })
})

describe("the subset of protocol definitions", () => {
  const files = new Map([
    [
      "a.proto",
      `syntax = "proto3";
package a;
import "./b.proto";
import "./c.proto";

// Doc.
service S {
  // One.
  rpc One(Request) returns (b.Response) {
    option (google.api.http) = { post: "/x" body: "*" };
  }
  rpc Two(Unused) returns (c.Other) {}
}
// Mentions Unused.
message Request {
  enum Kind { A = 0; }
  Kind kind = 1; // Unused
}
message Unused { Request request = 1; }
`
    ],
    ["b.proto", "syntax = \"proto3\";\npackage b;\nmessage Response {\n  Nested nested = 1;\n}\nmessage Nested {}\n"],
    ["c.proto", "syntax = \"proto3\";\npackage c;\nmessage Other {}\n"]
  ])

  it("holds the chosen calls and what they reach", () => {
    const subset = protoSubset(files, { S: ["One"] })
    assert.deepStrictEqual(Array.from(subset.keys()), ["a.proto", "b.proto"])
    const a = subset.get("a.proto") ?? ""
    assert.match(a, /import "b\.proto";/)
    assert.notMatch(a, /c\.proto|Two|message Unused|google/)
    assert.match(a, /rpc One\(Request\) returns \(b\.Response\) \{\}/)
    assert.match(a, /enum Kind/)
    assert.match(subset.get("b.proto") ?? "", /message Response[^]*message Nested/)
  })

  it("fails for what is not there", () => {
    assert.throws(() => protoSubset(files, { S: ["Three"] }), /has no call Three/)
    assert.throws(() => protoSubset(files, { T: [] }), /no service T/)
  })
})
