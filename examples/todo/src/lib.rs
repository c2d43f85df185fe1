//! A to-do list over the collection `todos`.
//!
//! Build: `cargo build --profile guest --target wasm32-wasip2 -p todo`

use coglex_sdk::prelude::*;

coglex_sdk::manifest!("coglex.toml");

coglex_sdk::app! { |app| {
    app.get("/api/todos").guard(api_key()).summary("Lists todos; `?done=true|false` filters.").to(list);
    app.post("/api/todos").guard(api_key()).body_limit(4096).summary("Adds a todo.").to(create);
    app.get("/api/todos/{id}").guard(api_key()).summary("Shows a todo.").to(show);
    app.patch("/api/todos/{id}").guard(api_key()).body_limit(4096).summary("Changes a todo.").to(change);
    app.delete("/api/todos/{id}").guard(api_key()).summary("Deletes a todo.").to(remove);
}}

#[derive(Deserialize)]
struct Todo {
    #[serde(rename = "_id")]
    id: Id,
    title: String,
    done: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct NewTodo {
    title: String,
    #[serde(default)]
    done: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Changes {
    #[serde(skip_serializing_if = "Option::is_none")]
    title: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    done: Option<bool>,
}

/// A todo as clients see it: its id is a plain string.
fn view(todo: Todo) -> Value {
    json!({"id": todo.id.to_string(), "title": todo.title, "done": todo.done})
}

fn list(request: Request) -> Result<Json<Vec<Value>>> {
    let filter = match request.query_param::<bool>("done")? {
        Some(done) => json!({"done": done}),
        None => json!({}),
    };
    let todos = storage::find("todos")
        .filter(filter)
        .sort(json!({"_id": 1}))
        .limit(100)
        .all()?;
    Ok(Json(todos.into_iter().map(view).collect()))
}

fn create(request: Request) -> Result<Response> {
    let new: NewTodo = request.json()?;
    let id = storage::insert("todos", &new)?;
    let todo = view(Todo {
        id: id.clone(),
        title: new.title,
        done: new.done,
    });
    Ok(Response::json(&todo)?
        .status(201)
        .header("location", format!("/api/todos/{id}")))
}

fn show(request: Request) -> Result<Json<Value>> {
    find(request.param("id")?)
}

fn change(request: Request) -> Result<Json<Value>> {
    let id: Id = request.param("id")?;
    let changes: Changes = request.json()?;
    if changes.title.is_some() || changes.done.is_some() {
        storage::update_by_id("todos", &id, json!({"$set": changes}))?;
    }
    find(id)
}

fn remove(request: Request) -> Result<()> {
    let deleted = storage::delete_by_id("todos", request.param::<Id>("id")?)?;
    deleted
        .then_some(())
        .or_status(404, "there is no such todo")
}

fn find(id: Id) -> Result<Json<Value>> {
    let todo = storage::get("todos", id)?.or_status(404, "there is no such todo")?;
    Ok(Json(view(todo)))
}
