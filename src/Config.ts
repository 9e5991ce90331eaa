/**
 * The configuration centre: typed values under readable keys, which change while applications run.
 *
 * A value is kept as a program in any language would write it: a string as it is, anything else as JSON. What does not
 * decode by the reader's schema is told with its key and version; it never ends a stream, nor does it take a list down.
 *
 * @since 0.1.0
 */
import * as Chunk from "effect/Chunk"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import type { ParseError } from "effect/ParseResult"
import * as Redacted from "effect/Redacted"
import type * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type { DecodeError } from "./ConfigError.js"
import { EncodeError, GuardFailed, NotFound, UnsupportedSchema, VersionConflict } from "./ConfigError.js"
import * as Errors from "./ConfigError.js"
import { EtcdClient } from "./EtcdClient.js"
import type { EtcdError } from "./EtcdError.js"
import { InvalidArgument } from "./EtcdError.js"
import * as Attempts from "./internal/attempts.js"
import { toText } from "./internal/bytes.js"
import * as Codec from "./internal/config/codec.js"
import * as Key from "./Key.js"
import * as Mirror from "./Mirror.js"
import type { Compare, KeyRange, KeyValue, OpResponse } from "./Txn.js"
import * as Txn from "./Txn.js"

export {
  /**
   * @since 0.1.0
   * @category errors
   */
  DecodeError,
  /**
   * @since 0.1.0
   * @category errors
   */
  EncodeError,
  /**
   * @since 0.1.0
   * @category errors
   */
  GuardFailed,
  /**
   * @since 0.1.0
   * @category errors
   */
  NotFound,
  /**
   * @since 0.1.0
   * @category errors
   */
  UnsupportedSchema,
  /**
   * @since 0.1.0
   * @category errors
   */
  VersionConflict
} from "./ConfigError.js"

