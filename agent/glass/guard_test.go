package glass

import (
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestGuard: only reading is served, only to who asks for this host, and not to a page
// of another site.
func TestGuard(t *testing.T) {
	s := (&bed{}).serve(t)
	for _, c := range []struct {
		name, method, path string
		header             []string
		want               int
	}{
		{"the page", "GET", "/", nil, 200},
		{"a head, which would hold a stream", "HEAD", "/api/live", nil, 405},
		{"a file", "GET", "/glass.js", nil, 200},
		{"an absent file", "GET", "/other.js", nil, 404},
		{"a path up", "GET", "/../glass.go", nil, 404},
		{"a post", "POST", "/", nil, 405},
		{"a post to data", "POST", "/api/explain?to=10.0.0.1", nil, 405},
		{"a delete", "DELETE", "/api/session", nil, 405},
		{"a preflight of another site", "OPTIONS", "/api/explain", []string{"Origin", "http://evil.example"}, 405},
		{"localhost", "GET", "/", []string{"Host", "localhost:9181"}, 200},
		{"an IPv6 address", "GET", "/", []string{"Host", "[::1]:9181"}, 200},
		{"an address without a port", "GET", "/", []string{"Host", "192.0.2.11"}, 200},
		{"a name that resolves to this address", "GET", "/", []string{"Host", "evil.example:9181"}, 421},
		{"such a name for data", "GET", "/api/routes?prefix=10.0.0.0/8", []string{"Host", "localhost.evil.example"}, 421},
		{"a name with an address in it", "GET", "/", []string{"Host", "127.0.0.1.evil.example"}, 421},
		{"an image on another site", "GET", "/api/routes?prefix=10.0.0.0/8", []string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "no-cors"}, 403},
		{"a fetch of another site", "GET", "/api/routes?prefix=10.0.0.0/8", []string{"Origin", "http://evil.example"}, 403},
		{"a sandboxed page", "GET", "/api/routes?prefix=10.0.0.0/8", []string{"Origin", "null"}, 403},
		{"a link on another site", "GET", "/", []string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate"}, 200},
		{"the page's own fetch", "GET", "/api/routes?prefix=10.0.0.0/8", []string{"Sec-Fetch-Site", "same-origin", "Sec-Fetch-Mode", "cors"}, 200},
		{"a long query", "GET", "/api/routes?prefix=" + strings.Repeat("1", maxQuery), nil, 414},
		{"large headers", "GET", "/", []string{"Cookie", strings.Repeat("x", 32<<10)}, 431},
	} {
		t.Run(c.name, func(t *testing.T) {
			rep := s.do(c.method, c.path, c.header...)
			defer rep.Body.Close()
			if rep.StatusCode != c.want {
				text, err := io.ReadAll(rep.Body)
				t.Errorf("%s, want %d: %s %v", rep.Status, c.want, text, err)
			}
			if c.want == 431 { // net/http itself answers
				return
			}
			for name, value := range headers {
				if rep.Header.Get(name) != value {
					t.Errorf("%s: %q", name, rep.Header.Get(name))
				}
			}
			for name := range rep.Header {
				if name == "Set-Cookie" || strings.HasPrefix(name, "Access-Control-") {
					t.Errorf("the answer has the header %s", name)
				}
			}
			if c.want == 405 && rep.Header.Get("Allow") == "" {
				t.Error("nothing says what is allowed")
			}
		})
	}
}

// TestFiles: the files hold nothing that the policy forbids or that comes from
// elsewhere, put no text where it could be HTML, and every file that one names is
// served, with its type.
func TestFiles(t *testing.T) {
	s := (&bed{}).serve(t)
	served := map[string]bool{}
	for path := range files() {
		served[strings.TrimSuffix(path, "{$}")] = true
	}
	size := 0
	names := regexp.MustCompile(`(?:href|src)="([^"#]+)"|from "\./([^"]+)"`)
	forbidden := regexp.MustCompile(`innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function|DOMParser|createContextualFragment|srcdoc| style="|setAttribute\("style"| on[a-z]+="|javascript:|<script>|<style|@import|url\(`)
	elsewhere := regexp.MustCompile(`(?:https?:)?//[a-z0-9]`)
	for path, f := range files() {
		size += len(f.text)
		path = strings.TrimSuffix(path, "{$}")
		rep := s.do(http.MethodGet, path)
		text, err := io.ReadAll(rep.Body)
		rep.Body.Close()
		if err != nil || string(text) != string(f.text) || rep.Header.Get("Content-Type") != f.kind {
			t.Errorf("%s is served as %s with %d bytes, %v", path, rep.Header.Get("Content-Type"), len(text), err)
		}
		if found := forbidden.FindString(string(text)); found != "" {
			t.Errorf("%s has %q", path, found)
		}
		for _, found := range elsewhere.FindAllString(strings.ReplaceAll(string(text), "http://www.w3.org/", ""), -1) {
			t.Errorf("%s names another place: %q", path, found)
		}
		for _, m := range names.FindAllStringSubmatch(string(text), -1) {
			if name := "/" + m[1] + m[2]; !served[name] {
				t.Errorf("%s names %s, which is not served", path, name)
			}
		}
	}
	if size > 60_000 {
		t.Errorf("the files have %d bytes, which every agent carries: want at most 60,000", size)
	}
	// Every place that the scripts look up is in the page.
	ids := regexp.MustCompile(`byId\("([a-z-]+)"\)`)
	var missing []string
	for _, f := range files() {
		for _, m := range ids.FindAllStringSubmatch(string(f.text), -1) {
			if !strings.Contains(string(pageFile), `id="`+m[1]+`"`) {
				missing = append(missing, m[1])
			}
		}
	}
	if slices.Sort(missing); len(missing) > 0 {
		t.Errorf("the page lacks %q", missing)
	}
}
