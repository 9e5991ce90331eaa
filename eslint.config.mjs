import * as effect from "@effect/eslint-plugin"
import tseslint from "typescript-eslint"

/**
 * The floors of the library, from the ground up: public modules, and folders or files of `src/internal` with what belongs
 * to them alone. A module imports from its own floor and those below it. `index` and `testing` may import everything; all
 * of `src/internal` that is not listed is on the lowest floor, and so is `etcd3`, which no module imports: it is for those
 * who have the package `etcd3`.
 */
const floors = [
  { modules: ["EtcdClient", "EtcdError", "Txn", "etcd3"], internal: [] },
  { modules: ["Key", "Mirror", "Session"], internal: ["attempts.ts", "mirror/**", "session/**"] },
  {
    modules: [
      "Config",
      "ConfigError",
      "ConfigLayers",
      "ConfigManager",
      "Election",
      "Grpc",
      "HttpClient",
      "InstanceId",
      "Lock",
      "LockError",
      "ReadWriteLock",
      "Registry",
      "Semaphore",
      "Singleton"
    ],
    internal: [
      "config/**",
      "configLayers/**",
      "configManager/**",
      "election/**",
      "grpcName/**",
      "httpName/**",
      "instanceId/**",
      "lock/**",
      "registry/**"
    ]
  },
  { modules: ["Coord"], internal: [] }
]

const path = (file) => `src/internal/${file}`

/** Keeps one floor from importing what is above it. */
const floorRules = floors.slice(0, -1).map(({ internal, modules }, index) => {
  const above = floors.slice(index + 1)
  const names = [...above.flatMap(({ modules }) => modules), "index", "testing", "etcd3"]
  const rooms = above.flatMap(({ internal }) => internal).map((file) => file.replace(/(\/\*\*|\.ts)$/, ""))
  const forbidden = [
    `(\\./|(\\.\\./)+)(${names.join("|")})\\.js`,
    ...rooms.length === 0 ? [] : [`(\\./|(\\.\\./)+)(internal/)?(${rooms.join("|")})(/.*|\\.js)`]
  ]
  return {
    files: [...modules.map((name) => `src/${name}.ts`), ...index === 0 ? [path("**/*.ts")] : internal.map(path)],
    ignores: above.flatMap(({ internal }) => internal).map(path),
    rules: {
      "no-restricted-imports": ["error", {
        patterns: [{
          regex: `^(${forbidden.join("|")})$`,
          message: "A module imports only from its own floor and those below it (see the floors in eslint.config.mjs)."
        }]
      }]
    }
  }
})

export default tseslint.config(
  {
    ignores: ["dist/", "coverage/", ".tmp/", "docs/", "src/internal/proto/", "**/*.md"]
  },
  ...tseslint.configs.recommended,
  ...effect.configs.dprint,
  {
    languageOptions: {
      parserOptions: {
        projectService: { allowDefaultProject: ["eslint.config.mjs"] },
        tsconfigRootDir: import.meta.dirname
      }
    },
    linterOptions: { reportUnusedDisableDirectives: "error" },
    rules: {
      "eqeqeq": "error",
      "no-duplicate-imports": ["error", { allowSeparateTypeImports: true }],
      "object-shorthand": "error",
      "@effect/dprint": ["error", {
        config: {
          indentWidth: 2,
          lineWidth: 120,
          semiColons: "asi",
          quoteStyle: "alwaysDouble",
          trailingCommas: "never",
          operatorPosition: "maintain",
          "arrowFunction.useParentheses": "force"
        }
      }],
      "@typescript-eslint/array-type": ["error", { default: "generic", readonly: "generic" }],
      "@typescript-eslint/await-thenable": "error",
      "@typescript-eslint/consistent-type-imports": "error",
      "@typescript-eslint/no-empty-object-type": "off",
      "@typescript-eslint/no-floating-promises": "error",
      "@typescript-eslint/no-misused-promises": "error",
      "@typescript-eslint/no-namespace": "off",
      "@typescript-eslint/no-unused-vars": ["error", {
        argsIgnorePattern: "^_",
        varsIgnorePattern: "^_",
        ignoreRestSiblings: true
      }],
      "require-yield": "off"
    }
  },
  {
    files: ["**/*.mjs"],
    ...tseslint.configs.disableTypeChecked
  },
  {
    files: ["src/**/*.ts"],
    rules: {
      "no-console": "error",
      "@effect/no-import-from-barrel-package": ["error", { packageNames: ["effect", "@effect/platform"] }]
    }
  },
  {
    files: ["test/**/*.ts", "bench/**/*.ts"],
    rules: { "@typescript-eslint/no-explicit-any": "off" }
  },
  ...floorRules
)
