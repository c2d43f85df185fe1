(function () {
  "use strict";
  var get = document.getElementById.bind(document);
  var path = location.pathname.replace(/\/+$/, "");
  var token = new URLSearchParams(location.hash.slice(1)).get("token");
  var reset = /\/reset\/[^/]+\/confirm$/.test(path);
  var titles = { verification: "Confirm your address", reset: "Set a new password", email: "Confirm your new address" };
  var kind = (path.match(/\/(verification|reset|email)\/[^/]+\/confirm$/) || [])[1];
  // Out of the address bar and the history.
  history.replaceState(null, "", location.pathname);
  get("title").textContent = titles[kind] || "Confirm";
  if (!token) {
    get("told").textContent = "This link is not complete. Please open it from the mail again.";
    return;
  }
  get("label").hidden = !reset;
  get("form").hidden = false;
  get("form").addEventListener("submit", function (event) {
    event.preventDefault();
    var body = { token: token };
    if (reset) { body._password = get("password").value; }
    fetch(path + "/", {
      method: "POST",
      credentials: "omit",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(body)
    }).then(function (response) {
      if (response.ok) {
        get("form").hidden = true;
        get("told").textContent = "Done. You can close this page.";
        return undefined;
      }
      return response.json().then(function (problem) { get("told").textContent = problem.detail; });
    }).catch(function () {
      get("told").textContent = "The server cannot be reached. Please try again.";
    });
  });
})();
