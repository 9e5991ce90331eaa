/** The command line. */
import * as Path from "node:path"
import { parseArgs } from "node:util"
import { root, temporary } from "../scripts/lib/project.js"
import { defaultPeers, defaultWorkloads, peers, us, workloads } from "./workloads.js"

export interface Options {
  readonly rounds: number
  readonly seconds: number
  readonly warmUpSeconds: number
  readonly workloads: ReadonlyArray<string>
  readonly inFlight: ReadonlyArray<number>
  readonly peers: ReadonlyArray<string>
  readonly etcd: string
  readonly json: string
  readonly profile: boolean
  /** Which of the promises in numbers are measured. */
  readonly promises: "none" | "quick" | "all"
  /** How many of everything are open at once for the last of them. */
  readonly open: number
  /** The build that the peer `before` runs. */
  readonly before: string | undefined
  /** The folder of the Go program's source. */
  readonly go: string
}

/** A command line that cannot be used. */
export class UsageError extends Error {
  override readonly name = "UsageError"
}

const names = (all: object): string => Object.keys(all).join(", ")

/** Among the workloads, this stands for the promises in numbers. */
const promises = "promises"

const allWorkloads = { ...workloads, [promises]: true }

export const usage = `npm run bench -- [options]

  --rounds N        how often everything is measured (7)
  --seconds S       how long each measurement is (1)
  --warm-up S       how long each runs before it is measured (0.3)
  --workloads A,B   of ${names(allWorkloads)}
                    (${defaultWorkloads.join(",")},${promises})
  --in-flight N,M   how many operations at once (1,64,512)
  --peers A,B       of ${names(peers)}
                    (${defaultPeers.join(",")})
  --promises        all promises in numbers, and nothing else unless named
  --open N          how many locks, registrations and watchers --promises opens at once (10000)
  --etcd V          3.4 or 3.5, or a whole version (3.5)
  --json FILE       where everything that was measured goes (.tmp/bench.json)
  --before FOLDER   an earlier build to compare with, a copy of dist inside the project; adds the peer "before"
  --go FOLDER       the source of the Go peer (../shared/peers/go)
  --profile         writes CPU profiles of our processes to .tmp/profiles
  --help`

const parse = (args: ReadonlyArray<string>) => {
  try {
    return parseArgs({
      args: [...args],
      strict: true,
      allowPositionals: false,
      options: {
        rounds: { type: "string", default: "7" },
        seconds: { type: "string", default: "1" },
        "warm-up": { type: "string", default: "0.3" },
        workloads: { type: "string" },
        "in-flight": { type: "string", default: "1,64,512" },
        peers: { type: "string", default: defaultPeers.join(",") },
        etcd: { type: "string", default: "3.5" },
        json: { type: "string", default: Path.join(temporary, "bench.json") },
        before: { type: "string" },
        go: { type: "string", default: Path.join(root, "..", "shared", "peers", "go") },
        profile: { type: "boolean", default: false },
        promises: { type: "boolean", default: false },
        open: { type: "string", default: "10000" },
        help: { type: "boolean", default: false }
      }
    }).values
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error))
  }
}

const number = (option: string, text: string, fits: (value: number) => boolean, what: string): number => {
  const value = Number(text)
  if (text.trim() === "" || !fits(value)) throw new UsageError(`--${option} must be ${what}, not "${text}"`)
  return value
}

const whole = (option: string, text: string): number =>
  number(option, text, (value) => Number.isSafeInteger(value) && value > 0, "a whole number above zero")

const list = (option: string, text: string): ReadonlyArray<string> => {
  const entries = Array.from(new Set(text.split(",").map((one) => one.trim()).filter((one) => one !== "")))
  if (entries.length === 0) throw new UsageError(`--${option} is empty`)
  return entries
}

const choice = (option: string, text: string, among: object): ReadonlyArray<string> =>
  list(option, text).map((name) => {
    if (!Object.hasOwn(among, name)) throw new UsageError(`--${option} knows no "${name}", only ${names(among)}`)
    return name
  })

/** The options, or `"help"`. Throws {@link UsageError}. */
export const fromArguments = (args: ReadonlyArray<string>): Options | "help" => {
  const given = parse(args)
  if (given.help) return "help"
  const chosen = choice("peers", given.peers, peers)
  if (chosen.includes("before") && given.before === undefined) {
    throw new UsageError("the peer \"before\" needs --before FOLDER")
  }
  const wanted = given.workloads === undefined
    ? given.promises ? [] : [...defaultWorkloads, promises]
    : choice("workloads", given.workloads, allWorkloads)
  return {
    rounds: whole("rounds", given.rounds),
    seconds: number("seconds", given.seconds, (value) => value > 0 && value <= 3_600, "seconds above zero"),
    warmUpSeconds: number("warm-up", given["warm-up"], (value) => value >= 0 && value <= 3_600, "seconds"),
    workloads: wanted.filter((name) => name !== promises),
    promises: given.promises ? "all" : wanted.includes(promises) && chosen.includes(us) ? "quick" : "none",
    inFlight: list("in-flight", given["in-flight"]).map((text) => whole("in-flight", text)),
    open: whole("open", given.open),
    peers: given.before === undefined || chosen.includes("before") ? chosen : [...chosen, "before"],
    etcd: given.etcd,
    json: Path.resolve(given.json),
    profile: given.profile,
    before: given.before === undefined ? undefined : Path.resolve(given.before),
    go: Path.resolve(given.go)
  }
}
