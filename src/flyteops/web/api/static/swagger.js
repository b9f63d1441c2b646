"use strict";

// Links of the API point to places here in the old way, "#!/pack/listPacks"; the page knows them without the mark.
if (window.location.hash.startsWith("#!/")) {
  window.history.replaceState(null, "", "#" + window.location.hash.slice(2));
}

window.ui = SwaggerUIBundle({
  url: "/v1/swagger",
  dom_id: "#page",
  deepLinking: true,
  validatorUrl: null,
  presets: [SwaggerUIBundle.presets.apis],
});
