package glass

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"time"

	"golang.org/x/time/rate"

	"onlink/agent/endpoint"
)

// The bounds of what readers can make the agent do. docs/security.md has them.
var (
	streamBounds  = endpoint.Bounds{All: 16, Each: 8}
	searchBounds  = endpoint.Bounds{All: 4, Each: 2} // each visits every route
	explainBounds = endpoint.Bounds{All: 2, Each: 1} // each sends probes
)

const (
	requestRate  rate.Limit = 20 // a second, of all readers together
	requestBurst            = 40
	explainRate  rate.Limit = 0.5
	explainBurst            = 5
	// searchTime and explainTime bound one answer.
	searchTime  = 10 * time.Second
	explainTime = 6 * time.Second // more than an explanation takes
	// patience is how long a message of the stream may wait for its reader.
	patience = 10 * time.Second
	// silence is how long the stream says nothing, at most: a reader that is gone is
	// found by it.
	silence = 15 * time.Second

	maxQuery    = 512 // bytes of a URL's query
	maxFilter   = 100 // bytes
	maxSessions = 200 // rows of the table
	maxChanges  = 50  // of sessions, in one event
	maxProblems = 100 // lines
	maxText     = 500 // bytes of one text from a peer
	maxRouters  = 64  // ToRs and reflectors that are drawn
	maxRacks    = 120
	maxDrawn    = 150 // nodes that are drawn without choosing a rack
	maxMembers  = 400 // nodes of the chosen rack
	maxBlocks   = 4   // prefixes of a node
	maxRoutes   = 100 // of a search
	maxPrefixes = 16  // with their paths, of a search
	maxPaths    = 32  // of one prefix
)

// limit bounds the rate of what readers start.
type limit struct{ *rate.Limiter }

func newLimit(perSecond rate.Limit, burst int) *limit {
	return &limit{rate.NewLimiter(perSecond, burst)}
}

// pace refuses requests beyond the rate.
func (l *limit) pace(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !l.Allow() {
			refuse(w, http.StatusTooManyRequests, "too many requests in a short time: try again in a second")
			return
		}
		next(w, r)
	}
}

// begin counts one more of what a reader has open; false: it was refused.
func begin(w http.ResponseWriter, r *http.Request, t *endpoint.Tally, what string) (end func(), ok bool) {
	key := reader(r)
	if !t.Begin(key) {
		of, all := t.Count(key)
		refuse(w, http.StatusTooManyRequests, fmt.Sprintf("%d %s are open, %d of them of %s, which is the limit: close one, or try again later", all, what, of, key))
		return nil, false
	}
	return func() { t.End(key) }, true
}

// reader is the address of a request's client.
func reader(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	if addr, err := netip.ParseAddr(host); err == nil {
		return addr.Unmap().WithZone("").String()
	}
	return host
}
