package glass

import (
	"net/http"

	"onlink/agent/endpoint"
)

// New returns the handler of the page.
func New(c Config) http.Handler {
	g := &glass{
		Config: c, land: &landscape{read: c.Uses}, requests: newLimit(requestRate, requestBurst), probing: newLimit(explainRate, explainBurst),
		streams: endpoint.NewTally(streamBounds), searches: endpoint.NewTally(searchBounds), explains: endpoint.NewTally(explainBounds),
	}
	mux := http.NewServeMux()
	for path, one := range files() {
		mux.Handle("GET "+path, one)
	}
	mux.HandleFunc("GET /api/live", g.live)
	mux.HandleFunc("GET /api/session", g.requests.pace(g.session))
	mux.HandleFunc("GET /api/routes", g.requests.pace(g.routes))
	mux.HandleFunc("GET /api/explain", g.requests.pace(g.explain))
	return guard(mux)
}
