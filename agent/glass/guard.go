package glass

import (
	"encoding/json"
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// headers are those of every answer. The policy permits the files of the page alone:
// no script inside it, no other machine, no frame around it.
var headers = map[string]string{
	"Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
		"base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
	"X-Content-Type-Options":       "nosniff",
	"X-Frame-Options":              "DENY",
	"Referrer-Policy":              "no-referrer",
	"Cross-Origin-Opener-Policy":   "same-origin",
	"Cross-Origin-Resource-Policy": "same-origin",
	"Cache-Control":                "no-store",
}

// guard admits requests that the page itself makes, or a person.
func guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for name, value := range headers {
			w.Header().Set(name, value)
		}
		switch {
		case r.Method != http.MethodGet:
			w.Header().Set("Allow", "GET")
			refuse(w, http.StatusMethodNotAllowed, "the looking glass only shows: use GET")
		case !ownHost(r.Host):
			// A name may be another site's, which resolves to this address to make a
			// browser show it what the agent shows (DNS rebinding).
			refuse(w, http.StatusMisdirectedRequest, "open the looking glass by its IP address or as localhost, not by another name")
		case foreign(r):
			refuse(w, http.StatusForbidden, "another site's page made this request: open the looking glass itself")
		case len(r.URL.RawQuery) > maxQuery:
			refuse(w, http.StatusRequestURITooLong, "the query is too long")
		default:
			next.ServeHTTP(w, r)
		}
	})
}

// ownHost reports whether a Host header cannot be a name of another site.
func ownHost(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	_, err := netip.ParseAddr(host)
	return err == nil || strings.EqualFold(host, "localhost")
}

// foreign reports whether a browser says that another site's page made the request. A
// link on another page that a person follows is none: the browser navigates.
func foreign(r *http.Request) bool {
	site := r.Header.Get("Sec-Fetch-Site")
	if origin := r.Header.Get("Origin"); origin != "" && origin != "http://"+r.Host {
		return true
	}
	return site != "" && site != "same-origin" && site != "none" && r.Header.Get("Sec-Fetch-Mode") != "navigate"
}

// refuse answers with an error.
func refuse(w http.ResponseWriter, code int, text string) {
	answer(w, code, map[string]string{"error": text})
}

// answer answers with a value.
func answer(w http.ResponseWriter, code int, v any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	text, err := json.Marshal(v)
	if err != nil {
		code, text = http.StatusInternalServerError, []byte(`{"error":"the answer cannot be written"}`)
	}
	w.WriteHeader(code)
	w.Write(append(text, '\n')) //nolint:errcheck,gosec // the reader may be gone
}
