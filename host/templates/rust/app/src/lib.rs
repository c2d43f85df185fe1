//! Notes over HTTP, kept in the collection `notes`.

use coglex_sdk::prelude::*;

coglex_sdk::manifest!("coglex.toml");
coglex_sdk::app!(routes);

fn routes(app: &mut App) {
    app.get("/api/{{name}}/hello").summary("Greets; `?name=` says whom.").to(hello);
    app.get("/api/{{name}}/notes").guard(api_key()).summary("Lists the notes.").to(list);
    app.post("/api/{{name}}/notes").guard(api_key()).body_limit(4096).summary("Adds a note.").to(add);
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Note {
    text: String,
}

fn hello(request: Request) -> Result<String> {
    let name = request.query_param("name")?.unwrap_or_else(|| "world".to_owned());
    Ok(format!("Hello, {name}!"))
}

fn list(_: Request) -> Result<Json<Vec<Value>>> {
    Ok(Json(storage::find("notes").sort(json!({"_id": -1})).limit(50).all()?))
}

fn add(request: Request) -> Result<Response> {
    let note: Note = request.json()?;
    let id = storage::insert("notes", &note)?;
    Ok(Response::json(&json!({"id": id.to_string()}))?.status(201))
}

#[cfg(test)]
mod tests {
    use super::*;
    use coglex_sdk::testing;

    #[test]
    fn greets_by_name() {
        let mut app = App::default();
        routes(&mut app);
        let response = app.respond(Request::new("GET", "/api/{{name}}/hello?name=Ann"));
        assert_eq!(response.body(), b"Hello, Ann!");
    }

    #[test]
    #[cfg_attr(not(target_family = "wasm"), ignore = "needs a server: `coglex plugin test` has one")]
    fn keeps_notes() {
        let note = Request::new("POST", "/api/{{name}}/notes").with_json(&json!({"text": "Buy milk"}));
        assert_eq!(testing::request(note.unwrap()).status_code(), 201);

        let kept: Vec<Value> = storage::find("notes").all().unwrap();
        assert_eq!(kept.len(), 1);

        testing::as_anonymous();
        let list = testing::request(Request::new("GET", "/api/{{name}}/notes"));
        assert_eq!(list.status_code(), 401);
    }
}
