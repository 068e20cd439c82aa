// Shows the document that is served beside this page, with the viewer loaded before this script.
'use strict';

/** With more operations than this the groups begin closed: drawing thousands of rows takes a browser seconds. */
const MANY = 200;

async function show() {
  const where = new URL('openapi.json', document.baseURI);
  const response = await fetch(where);
  if (!response.ok) throw new Error(`${where.pathname} answers ${response.status}`);
  const spec = await response.json();
  document.title = spec.info.title;
  // The viewer shows this as a link, and where relative servers are resolved from.
  SwaggerUIBundle({
    dom_id: '#viewer',
    url: where.href,
    docExpansion: Object.keys(spec.paths).length > MANY ? 'none' : 'list',
    defaultModelsExpandDepth: 0,
    deepLinking: true,
    displayOperationId: false,
    displayRequestDuration: true,
    filter: true,
    tryItOutEnabled: true,
    // Nothing leaves for anybody but the server of this page.
    validatorUrl: null,
  });
}

show().catch((error) => {
  document.querySelector('#viewer').textContent = `The document cannot be shown: ${error.message}`;
});
