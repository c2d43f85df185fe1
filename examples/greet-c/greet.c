// Greets whoever the path names: `GET /greet-c/{name}`.
//
// There is no SDK for C, and none is needed: `wit-bindgen c` makes greet.h from
// `wit/`, and this file fills in what it declares. `build.sh` does both.
//
// What a function returns is freed by the bindings after the host has read it, so
// all of it is allocated; the instance is gone after the call in any case.

#include <stdlib.h>
#include <string.h>

#include "greet.h"

static void *allocated(size_t size) {
  void *memory = calloc(1, size);
  // The host answers a trap with 500 and logs where it was.
  if (memory == NULL) abort();
  return memory;
}

void exports_coglex_gateway_app_describe(exports_coglex_gateway_app_manifest_t *manifest) {
  // Zero is an empty list, and an option without a value.
  exports_coglex_gateway_app_route_t *route = allocated(sizeof *route);
  route->methods.len = 1;
  route->methods.ptr = allocated(sizeof *route->methods.ptr);
  greet_string_dup(route->methods.ptr, "GET");
  greet_string_dup(&route->path, "/greet-c/{name}");
  route->summary.is_some = true;
  greet_string_dup(&route->summary.val, "Greets.");
  manifest->routes.len = 1;
  manifest->routes.ptr = route;
}

void exports_coglex_gateway_handler_handle(exports_coglex_gateway_handler_request_t *request,
                                           exports_coglex_gateway_handler_response_t *response) {
  // The route has one parameter, and the host has decoded it.
  const greet_string_t *name = &request->params.ptr[0].f1;

  greet_string_t message;
  greet_string_set(&message, "greeted");
  greet_tuple2_string_string_t field;
  greet_string_set(&field.f0, "name");
  field.f1 = *name;
  greet_list_tuple2_string_string_t fields = {.ptr = &field, .len = 1};
  coglex_log_logging_log(COGLEX_LOG_LOGGING_LEVEL_INFO, &message, &fields);

  static const char before[] = "Hello, ";
  static const char after[] = "!\n";
  const size_t length = strlen(before) + name->len + strlen(after);
  uint8_t *body = allocated(length);
  memcpy(body, before, strlen(before));
  memcpy(body + strlen(before), name->ptr, name->len);
  memcpy(body + strlen(before) + name->len, after, strlen(after));

  response->status = 200;
  response->headers.len = 1;
  response->headers.ptr = allocated(sizeof *response->headers.ptr);
  greet_string_dup(&response->headers.ptr->f0, "content-type");
  greet_string_dup(&response->headers.ptr->f1, "text/plain; charset=utf-8");
  response->body.len = length;
  response->body.ptr = body;

  coglex_gateway_types_request_free(request);
}
