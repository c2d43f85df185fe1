//! Components in WAT: a core module with a few instructions of interest, lifted
//! through the canonical ABI to the exports that the host calls.

/// What a hand-made guest consists of.
#[derive(Default)]
pub(crate) struct Guest {
    /// Fields of the core module: tables, more functions.
    pub(crate) module: &'static str,
    /// Instructions of `run`, whose result is the address of a `result`. The
    /// locals `$args` and `$args_len` hold the arguments, `$n` is free; `$ok`
    /// makes a result of address and length, `$digit` one of a number below ten.
    pub(crate) run: String,
    /// Instructions that run first in `describe`.
    pub(crate) describe: &'static str,
    /// Which host functions the module imports.
    pub(crate) host: Host,
    /// Pages of memory to start with.
    pub(crate) pages: u32,
}

/// The host functions that a guest imports.
#[derive(Default, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Host {
    #[default]
    Nothing,
    /// `coglex:config/settings.get`, as `$get (name, len, result)`.
    Config,
    /// `coglex:storage/documents.count`, as `$count (collection, len, filter,
    /// len, result)`.
    Storage,
    /// `coglex:log/logging.log`, as `$log (level, text, len, fields, len)`.
    Log,
    /// `coglex:execution/calls.call`, as `$call (function, len, args, len,
    /// kwargs, len, result)`.
    Calls,
    /// `wasi:clocks/monotonic-clock.subscribe-duration`, as `$timer (nanoseconds)`,
    /// which gives a handle, and `wasi:io/poll.pollable.block`, as `$block (handle)`.
    Timer,
    /// `wasi:random/random.get-random-bytes`, as `$random (len: i64, result)`.
    Random,
}

/// A component with the function `probe`.
pub(crate) fn function(guest: Guest) -> String {
    let Guest {
        module,
        run,
        describe,
        host,
        pages,
    } = guest;
    let pages = pages.max(1);
    let (import, lower, core_import, with) = host.parts();
    format!(
        r#"(component
  {import}
  (core module $libc
    (memory (export "memory") {pages})
    (global $next (mut i32) (i32.const 8192))
    (func (export "realloc") (param i32 i32 i32 i32) (result i32)
      (local $at i32)
      (local.set $at (i32.and (i32.add (global.get $next) (i32.const 15)) (i32.const -16)))
      (global.set $next (i32.add (local.get $at) (local.get 3)))
      (block $fits
        (br_if $fits (i32.le_u (global.get $next) (i32.mul (memory.size) (i32.const 65536))))
        (br_if $fits (i32.ne (memory.grow (i32.add (i32.div_u (local.get 3) (i32.const 65536)) (i32.const 1))) (i32.const -1)))
        (unreachable))
      (local.get $at)))
  (core instance $libc (instantiate $libc))
  {lower}
  (core module $main
    (import "libc" "memory" (memory 1))
    {core_import}
    (data (i32.const 16) "probe")
    (data (i32.const 32) "\40\00\00\00\01\00\00\00")
    (data (i32.const 64) "\10\00\00\00\05\00\00\00\00")
    (data (i32.const 112) "0123456789")
    (data (i32.const 128) "notes{{}}slow")
    {module}
    (func $ok (param i32 i32) (result i32)
      (i32.store8 (i32.const 1024) (i32.const 0))
      (i32.store (i32.const 1028) (local.get 0))
      (i32.store (i32.const 1032) (local.get 1))
      (i32.const 1024))
    (func $digit (param i32) (result i32)
      (call $ok (i32.add (i32.const 112) (local.get 0)) (i32.const 1)))
    (func (export "describe") (result i32) {describe} (i32.const 32))
    (func (export "run") (param $name i32) (param i32) (param $args i32) (param $args_len i32)
                         (param i32 i32 i32 i32) (result i32)
      (local $n i32)
      {run}))
  (core instance $main (instantiate $main (with "libc" (instance $libc)) {with}))
  (type $info (record (field "name" string) (field "summary" (option string))))
  (type $call (record (field "name" string) (field "args" string) (field "kwargs" string) (field "invocation-id" string)))
  (type $failure (record (field "code" string) (field "message" string)))
  (type $error (variant (case "failure" $failure) (case "unavailable") (case "internal" string)))
  (func $describe (result (list $info))
    (canon lift (core func $main "describe") (memory (core memory $libc "memory")) (realloc (core func $libc "realloc"))))
  (func $run (param "call" $call) (result (result string (error $error)))
    (canon lift (core func $main "run") (memory (core memory $libc "memory")) (realloc (core func $libc "realloc"))))
  (component $named
    (type $info0 (record (field "name" string) (field "summary" (option string))))
    (type $call0 (record (field "name" string) (field "args" string) (field "kwargs" string) (field "invocation-id" string)))
    (type $failure0 (record (field "code" string) (field "message" string)))
    (import "in-info" (type $info (eq $info0)))
    (import "in-call" (type $call (eq $call0)))
    (import "in-failure" (type $failure (eq $failure0)))
    (type $error0 (variant (case "failure" $failure) (case "unavailable") (case "internal" string)))
    (import "in-error" (type $error (eq $error0)))
    (import "in-describe" (func $describe (result (list $info))))
    (import "in-run" (func $run (param "call" $call) (result (result string (error $error)))))
    (export $info1 "function-info" (type $info))
    (export $call1 "call" (type $call))
    (export $failure1 "failure" (type $failure))
    (type $error2 (variant (case "failure" $failure1) (case "unavailable") (case "internal" string)))
    (export $error1 "error" (type $error2))
    (export "describe" (func $describe) (func (result (list $info1))))
    (export "run" (func $run) (func (param "call" $call1) (result (result string (error $error1))))))
  (instance $out (instantiate $named
    (with "in-info" (type $info)) (with "in-call" (type $call)) (with "in-failure" (type $failure)) (with "in-error" (type $error))
    (with "in-describe" (func $describe)) (with "in-run" (func $run))))
  (export "coglex:function/functions@0.1.0" (instance $out)))"#
    )
}

impl Host {
    /// The component's import, its lowering, the core import, and what the core
    /// module is instantiated with.
    fn parts(self) -> (&'static str, &'static str, &'static str, &'static str) {
        match self {
            Host::Nothing => ("", "", "", ""),
            Host::Config => (
                r#"(import "coglex:config/settings@0.1.0" (instance $host
                     (export "get" (func (param "name" string) (result (option string))))))"#,
                r#"(core func $f (canon lower (func $host "get") (memory (core memory $libc "memory")) (realloc (core func $libc "realloc"))))
                   (core instance $imports (export "get" (func $f)))"#,
                r#"(import "host" "get" (func $get (param i32 i32 i32)))"#,
                r#"(with "host" (instance $imports))"#,
            ),
            Host::Storage => (
                r#"(import "coglex:storage/documents@0.1.0" (instance $host
                     (type $error (variant (case "access-denied" string) (case "invalid" string) (case "conflict" string)
                       (case "too-large" string) (case "timeout") (case "unavailable")))
                     (export "error" (type $e (eq $error)))
                     (export "count" (func (param "collection" string) (param "filter" string) (result (result u64 (error $e)))))))"#,
                r#"(core func $f (canon lower (func $host "count") (memory (core memory $libc "memory")) (realloc (core func $libc "realloc"))))
                   (core instance $imports (export "count" (func $f)))"#,
                r#"(import "host" "count" (func $count (param i32 i32 i32 i32 i32)))"#,
                r#"(with "host" (instance $imports))"#,
            ),
            Host::Log => (
                r#"(import "coglex:log/logging@0.1.0" (instance $host
                     (type $level (enum "trace" "debug" "info" "warn" "error"))
                     (export "level" (type $l (eq $level)))
                     (export "log" (func (param "level" $l) (param "message" string) (param "fields" (list (tuple string string)))))))"#,
                r#"(core func $f (canon lower (func $host "log") (memory (core memory $libc "memory")) (realloc (core func $libc "realloc"))))
                   (core instance $imports (export "log" (func $f)))"#,
                r#"(import "host" "log" (func $log (param i32 i32 i32 i32 i32)))"#,
                r#"(with "host" (instance $imports))"#,
            ),
            Host::Calls => (
                r#"(import "coglex:execution/calls@0.1.0" (instance $host
                     (type $failure (record (field "code" string) (field "message" string)))
                     (export "failure" (type $f (eq $failure)))
                     (type $error (variant (case "access-denied" string) (case "not-found" string) (case "invalid" string)
                       (case "failure" $f) (case "trapped") (case "deadline") (case "overloaded") (case "unavailable")))
                     (export "error" (type $e (eq $error)))
                     (export "call" (func (param "function" string) (param "args" string) (param "kwargs" string)
                       (result (result string (error $e)))))))"#,
                r#"(core func $f (canon lower (func $host "call") (memory (core memory $libc "memory")) (realloc (core func $libc "realloc"))))
                   (core instance $imports (export "call" (func $f)))"#,
                r#"(import "host" "call" (func $call (param i32 i32 i32 i32 i32 i32 i32)))"#,
                r#"(with "host" (instance $imports))"#,
            ),
            Host::Timer => (
                r#"(import "wasi:io/poll@0.2.0" (instance $poll
                     (export "pollable" (type $p (sub resource)))
                     (export "[method]pollable.block" (func (param "self" (borrow $p))))))
                   (alias export $poll "pollable" (type $pollable))
                   (import "wasi:clocks/monotonic-clock@0.2.0" (instance $host
                     (alias outer 1 $pollable (type $p))
                     (export "subscribe-duration" (func (param "when" u64) (result (own $p))))))"#,
                r#"(core func $f (canon lower (func $host "subscribe-duration")))
                   (core func $g (canon lower (func $poll "[method]pollable.block")))
                   (core instance $imports (export "timer" (func $f)) (export "block" (func $g)))"#,
                r#"(import "host" "timer" (func $timer (param i64) (result i32)))
                   (import "host" "block" (func $block (param i32)))"#,
                r#"(with "host" (instance $imports))"#,
            ),
            Host::Random => (
                r#"(import "wasi:random/random@0.2.0" (instance $host
                     (export "get-random-bytes" (func (param "len" u64) (result (list u8))))))"#,
                r#"(core func $f (canon lower (func $host "get-random-bytes") (memory (core memory $libc "memory")) (realloc (core func $libc "realloc"))))
                   (core instance $imports (export "random" (func $f)))"#,
                r#"(import "host" "random" (func $random (param i64 i32)))"#,
                r#"(with "host" (instance $imports))"#,
            ),
        }
    }
}

/// A guest that runs these instructions.
pub(crate) fn runs(run: &str) -> String {
    function(Guest {
        run: run.to_owned(),
        ..Guest::default()
    })
}

/// A gateway app with the one route `/echo`: it answers with this status, the
/// request's headers and the request's body.
pub(crate) fn echo(status: u16) -> String {
    app(&format!(
        "(i32.store16 (i32.const 1024) (i32.const {status}))
         (i32.store (i32.const 1028) (local.get $headers))
         (i32.store (i32.const 1032) (local.get $headers_len))
         (i32.store (i32.const 1036) (local.get $body))
         (i32.store (i32.const 1040) (local.get $body_len))
         (i32.const 1024)"
    ))
}

/// A gateway app with the one route `/echo`, which these instructions answer:
/// their result is the address of a `response`. The locals `$headers`, `$body` and
/// their `…_len` hold the request's; from 1024 on there is room for the response.
pub(crate) fn app(handle: &str) -> String {
    format!(
        r#"(component
  (core module $main
    (memory (export "memory") 1)
    (global $next (mut i32) (i32.const 8192))
    (func (export "realloc") (param i32 i32 i32 i32) (result i32)
      (local $at i32)
      (local.set $at (i32.and (i32.add (global.get $next) (i32.const 15)) (i32.const -16)))
      (global.set $next (i32.add (local.get $at) (local.get 3)))
      (block $fits
        (br_if $fits (i32.le_u (global.get $next) (i32.mul (memory.size) (i32.const 65536))))
        (br_if $fits (i32.ne (memory.grow (i32.add (i32.div_u (local.get 3) (i32.const 65536)) (i32.const 1))) (i32.const -1)))
        (unreachable))
      (local.get $at))
    (data (i32.const 16) "/echo")
    (data (i32.const 32) "\40\00\00\00\01\00\00\00")
    ;; The route: no methods, the path, and nothing of all that is optional.
    (data (i32.const 72) "\10\00\00\00\05\00\00\00")
    (func (export "describe") (result i32) (i32.const 32))
    (func (export "handle")
      (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32)
      (param $headers i32) (param $headers_len i32) (param $body i32) (param $body_len i32)
      (result i32)
      {handle}))
  (core instance $main (instantiate $main))
  {types}
  (func $describe (result $manifest)
    (canon lift (core func $main "describe") (memory (core memory $main "memory")) (realloc (core func $main "realloc"))))
  (func $handle (param "request" $request) (result $response)
    (canon lift (core func $main "handle") (memory (core memory $main "memory")) (realloc (core func $main "realloc"))))
  (component $app
    (type $role0 (record (field "collection" string) (field "name" string)))
    (import "in-role" (type $role (eq $role0)))
    (type $guard0 (variant (case "api-key") (case "authenticated" string) (case "role" $role)))
    (import "in-guard" (type $guard (eq $guard0)))
    (type $scope0 (enum "caller" "address" "everyone"))
    (import "in-scope" (type $scope (eq $scope0)))
    (type $rate0 (record (field "requests" u32) (field "seconds" u32) (field "per" $scope)))
    (import "in-rate" (type $rate (eq $rate0)))
    (type $cache0 (record (field "max-age" u32) (field "shared" bool)))
    (import "in-cache" (type $cache (eq $cache0)))
    (type $route0 (record (field "methods" (list string)) (field "path" string) (field "guards" (list $guard))
      (field "body-limit" (option u64)) (field "media-types" (list string)) (field "rate" (option $rate))
      (field "cache" (option $cache)) (field "summary" (option string)) (field "body-schema" (option string))
      (field "query-schema" (option string)) (field "output-schema" (option string))))
    (import "in-route" (type $route (eq $route0)))
    (type $manifest0 (record (field "routes" (list $route))))
    (import "in-manifest" (type $manifest (eq $manifest0)))
    (import "in-describe" (func $describe (result $manifest)))
    ;; What is exported may refer to what is exported only.
    (export $role1 "role" (type $role))
    (type $guard2 (variant (case "api-key") (case "authenticated" string) (case "role" $role1)))
    (export $guard1 "guard" (type $guard2))
    (export $scope1 "rate-scope" (type $scope))
    (type $rate2 (record (field "requests" u32) (field "seconds" u32) (field "per" $scope1)))
    (export $rate1 "rate-limit" (type $rate2))
    (export $cache1 "cache-hints" (type $cache))
    (type $route2 (record (field "methods" (list string)) (field "path" string) (field "guards" (list $guard1))
      (field "body-limit" (option u64)) (field "media-types" (list string)) (field "rate" (option $rate1))
      (field "cache" (option $cache1)) (field "summary" (option string)) (field "body-schema" (option string))
      (field "query-schema" (option string)) (field "output-schema" (option string))))
    (export $route1 "route" (type $route2))
    (type $manifest2 (record (field "routes" (list $route1))))
    (export $manifest1 "manifest" (type $manifest2))
    (export "describe" (func $describe) (func (result $manifest1))))
  (component $handler
    {types}
    (import "in-request" (type $request1 (eq $request)))
    (import "in-response" (type $response1 (eq $response)))
    (import "in-handle" (func $handle (param "request" $request1) (result $response1)))
    (export $request2 "request" (type $request1))
    (export $response2 "response" (type $response1))
    (export "handle" (func $handle) (func (param "request" $request2) (result $response2))))
  (instance $out_app (instantiate $app (with "in-role" (type $role)) (with "in-guard" (type $guard))
    (with "in-scope" (type $scope)) (with "in-rate" (type $rate)) (with "in-cache" (type $cache)) (with "in-route" (type $route))
    (with "in-manifest" (type $manifest)) (with "in-describe" (func $describe))))
  (instance $out_handler (instantiate $handler (with "in-request" (type $request))
    (with "in-response" (type $response)) (with "in-handle" (func $handle))))
  (export "coglex:gateway/app@0.1.0" (instance $out_app))
  (export "coglex:gateway/handler@0.1.0" (instance $out_handler)))"#,
        types = r#"
    (type $role (record (field "collection" string) (field "name" string)))
    (type $guard (variant (case "api-key") (case "authenticated" string) (case "role" $role)))
    (type $scope (enum "caller" "address" "everyone"))
    (type $rate (record (field "requests" u32) (field "seconds" u32) (field "per" $scope)))
    (type $cache (record (field "max-age" u32) (field "shared" bool)))
    (type $route (record (field "methods" (list string)) (field "path" string) (field "guards" (list $guard))
      (field "body-limit" (option u64)) (field "media-types" (list string)) (field "rate" (option $rate))
      (field "cache" (option $cache)) (field "summary" (option string)) (field "body-schema" (option string))
      (field "query-schema" (option string)) (field "output-schema" (option string))))
    (type $manifest (record (field "routes" (list $route))))
    (type $request (record (field "method" string) (field "path" string) (field "route" string)
      (field "query" (option string)) (field "params" (list (tuple string string)))
      (field "headers" (list (tuple string string))) (field "body" (list u8))))
    (type $response (record (field "status" u16) (field "headers" (list (tuple string string))) (field "body" (list u8))))"#
    )
}
