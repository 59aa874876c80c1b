package glass

import (
	_ "embed"
	"net/http"
)

// The files of the page, as they are served. TestSize bounds them: they are in every
// agent, also where no page is served.
var (
	//go:embed web/index.html
	pageFile []byte
	//go:embed web/glass.css
	styleFile []byte
	//go:embed web/icon.svg
	iconFile []byte
	//go:embed web/glass.js
	glassFile []byte
	//go:embed web/dom.js
	domFile []byte
	//go:embed web/sessions.js
	sessionsFile []byte
	//go:embed web/topology.js
	topologyFile []byte
	//go:embed web/search.js
	searchFile []byte
)

// file is one of them.
type file struct {
	kind string
	text []byte
}

// files are the files by their paths.
func files() map[string]file {
	const script = "text/javascript; charset=utf-8"
	return map[string]file{
		"/{$}":         {"text/html; charset=utf-8", pageFile},
		"/glass.css":   {"text/css; charset=utf-8", styleFile},
		"/icon.svg":    {"image/svg+xml", iconFile},
		"/glass.js":    {script, glassFile},
		"/dom.js":      {script, domFile},
		"/sessions.js": {script, sessionsFile},
		"/topology.js": {script, topologyFile},
		"/search.js":   {script, searchFile},
	}
}

// ServeHTTP implements http.Handler.
func (f file) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", f.kind)
	w.Write(f.text) //nolint:errcheck,gosec // the reader may be gone
}
