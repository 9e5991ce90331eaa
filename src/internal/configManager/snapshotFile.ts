/**
 * The last value that was applied, in a file: for a start without etcd.
 *
 * It is replaced as a whole, so that whoever reads it finds one value or another. It may hold secrets, and is readable by
 * its owner alone. A file that is no snapshot of this setting is not touched, nor one that cannot be read.
 */
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Fiber from "effect/Fiber"
import * as Queue from "effect/Queue"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import { open as openFile, readFile, rename, rm } from "node:fs/promises"
import * as Path from "node:path"
import type { Version } from "../config/model.js"
import { firstOf } from "../firstOf.js"
import { randomSuffix } from "../ids.js"

export interface Saved {
  /** The key it stood under, as `Config` names it. */
  readonly key: string
  readonly version: Version
  readonly value: string
}

export interface SnapshotFile {
  readonly file: string
  /** What is in the file, as far as is known, with the time of the writing. */
  readonly saved: () => (Saved & { readonly atMillis: number }) | undefined
  readonly problem: () => string | undefined
  /** Has this in the file soon; `undefined` for no file. */
  readonly save: (content: Saved | undefined) => void
}

const format = "effect-coord/config-snapshot"

const Content = Schema.parseJson(Schema.Struct({
  format: Schema.Literal(format),
  formatVersion: Schema.Literal(1),
  /** The setting's key in etcd: whose snapshot it is. */
  setting: Schema.String,
  key: Schema.String,
  version: Schema.BigInt,
  writtenAt: Schema.Date,
  value: Schema.String
}))

const decode = Schema.decodeEither(Content)
const encode = Schema.encodeSync(Content)

/** Between two writes: with many updates a second, each would cost a flush of the disk. */
const pause = Duration.seconds(1)
/** Until a failed write is tried again. */
const retryPause = Duration.seconds(10)
/** Files of a network may hang for long. */
const readTimeout = Duration.seconds(2)
const closeTimeout = Duration.seconds(2)

const codeOf = (cause: unknown): string | undefined =>
  cause instanceof Error && "code" in cause && typeof cause.code === "string" ? cause.code : undefined

/** Without the path, which is that of another temporary file every time. */
const messageOf = (cause: unknown): string => cause instanceof Error ? cause.message.split(", ")[0] : String(cause)

/** A rename is on the disk when its folder is; not every system can be asked for that. */
const syncFolder = async (folder: string): Promise<void> => {
  const handle = await openFile(folder, "r")
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}

const replace = async (file: string, text: string): Promise<void> => {
  const temporary = `${file}.${randomSuffix()}.tmp`
  try {
    const handle = await openFile(temporary, "wx", 0o600)
    try {
      await handle.writeFile(text)
      await handle.sync()
    } finally {
      await handle.close()
    }
    await rename(temporary, file)
  } catch (error) {
    await rm(temporary, { force: true }).catch(() => undefined)
    throw error
  }
  await syncFolder(Path.dirname(file)).catch(() => undefined)
}

/** @param setting the setting's key in etcd */
export const open = (
  path: string,
  setting: string
): Effect.Effect<SnapshotFile, never, Scope.Scope> =>
  Effect.gen(function*() {
    const file = Path.resolve(path)
    let saved: (Saved & { readonly atMillis: number }) | undefined
    let problem: string | undefined
    /** Nobody knows yet whose file it is. */
    let isUnread = true
    /** The file is somebody else's. */
    let isForeign = false
    let mayExist = true

    const complain = (what: string): Effect.Effect<void> =>
      Effect.suspend(() => {
        if (problem === what) return Effect.void
        problem = what
        return Effect.logWarning(`snapshot of config "${setting}" in ${file}: ${what}`)
      })

    const take = (text: string): Effect.Effect<void> => {
      const content = decode(text)
      if (Either.isRight(content)) {
        const { key, value, version, writtenAt } = content.right
        if (content.right.setting === setting) {
          saved = { key, value, version, atMillis: writtenAt.getTime() }
          return Effect.void
        }
        isForeign = true
        return complain(`it is the snapshot of "${content.right.setting}": ignored, and left as it is`)
      }
      // What was begun as one may be replaced by one.
      isForeign = text.trim() !== "" && !text.includes(format)
      return complain(
        isForeign ? "it is no snapshot: ignored, and left as it is" : "it cannot be read as a snapshot: ignored"
      )
    }

    const reading: Effect.Effect<string, unknown> = Effect.tryPromise({
      try: (signal) => readFile(file, { encoding: "utf8", signal }),
      catch: (cause) => cause
    })

    const look = (reading: Effect.Effect<string, unknown>): Effect.Effect<void> =>
      Effect.matchEffect(reading, {
        onFailure: (cause) =>
          Effect.suspend(() => {
            isUnread = mayExist = codeOf(cause) !== "ENOENT"
            saved = undefined
            return isUnread ? complain(`it cannot be read: ${messageOf(cause)}`) : Effect.void
          }),
        onSuccess: (text) => {
          isUnread = false
          mayExist = true
          saved = undefined
          return take(text)
        }
      })
    yield* look(firstOf(reading, Effect.delay(Effect.fail("no answer"), readTimeout)))

    const news = yield* Queue.sliding<void>(1)
    const closing = yield* Deferred.make<void>()
    let due: { readonly content: Saved | undefined } | undefined
    let isClosing = false

    /** Whether it worked. */
    const write = (content: Saved | undefined): Effect.Effect<boolean> =>
      Effect.gen(function*() {
        // It may be somebody else's by now.
        yield* look(reading)
        if (isUnread) return false
        if (isForeign) return true
        const atMillis = yield* Clock.currentTimeMillis
        if (content !== undefined) mayExist = true
        const text = content === undefined
          ? undefined
          : encode({ format, formatVersion: 1, setting, writtenAt: new Date(atMillis), ...content })
        yield* Effect.tryPromise({
          try: () => text === undefined ? rm(file, { force: true }) : replace(file, text),
          catch: (cause) => cause
        })
        saved = content === undefined ? undefined : { ...content, atMillis }
        if (content === undefined) mayExist = false
        problem = undefined
        return true
      }).pipe(Effect.catchAll((cause) => Effect.as(complain(`it cannot be written: ${messageOf(cause)}`), false)))

    const writing = Effect.gen(function*() {
      for (;;) {
        if (due === undefined) {
          if (isClosing) return
          yield* Effect.raceFirst(Queue.take(news), Deferred.await(closing))
          continue
        }
        const isLast = isClosing
        const { content } = due
        due = undefined
        const worked = yield* write(content)
        if (!worked) {
          if (isLast) return
          due ??= { content }
        }
        yield* Effect.raceFirst(Effect.sleep(worked ? pause : retryPause), Deferred.await(closing))
      }
    })

    yield* Effect.acquireRelease(
      // Not interrupted in the middle of a write: it is told to end.
      Effect.forkDaemon(Effect.interruptible(writing)),
      (writer) =>
        Effect.suspend(() => {
          isClosing = true
          Deferred.unsafeDone(closing, Effect.void)
          return firstOf(Fiber.await(writer), Effect.sleep(closeTimeout))
        }).pipe(Effect.zipRight(Fiber.interruptFork(writer)))
    )

    return {
      file,
      saved: () => saved,
      problem: () => problem,
      save: (content) => {
        if (isForeign || (content === undefined && due === undefined && !mayExist)) return
        due = { content }
        news.unsafeOffer(undefined)
      }
    }
  })
