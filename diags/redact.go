package diags

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Removed stands for what a [Redactor] removes.
const Removed = "(removed)"

// shortest is the length of the shortest secret that is looked for in a text: a
// shorter one is part of most words.
const shortest = 4

// Redactor removes secrets from texts: those that it was given, in any of the forms
// that programs write them, and what looks like one. It is not changed after it was
// made, and may be used by several goroutines at once.
type Redactor struct{ known *strings.Replacer }

// NewRedactor returns a redactor of the given secrets, of each as a whole and line by
// line.
func NewRedactor(secrets ...string) *Redactor {
	forms := map[string]bool{}
	for _, s := range secrets {
		for _, one := range append(strings.Split(s, "\n"), s) {
			if one = strings.TrimSpace(one); len(one) >= shortest && !strings.HasPrefix(one, "-----") {
				for _, f := range formsOf(one) {
					forms[f] = true
				}
			}
		}
	}
	list := make([]string, 0, len(forms))
	for f := range forms {
		list = append(list, f)
	}
	// The longest first: a form that is part of another one must not leave its rest.
	slices.SortFunc(list, func(a, b string) int {
		if len(a) != len(b) {
			return len(b) - len(a)
		}
		return strings.Compare(a, b)
	})
	var pairs []string
	for _, f := range list {
		pairs = append(pairs, f, Removed)
	}
	return &Redactor{known: strings.NewReplacer(pairs...)}
}

// SecretsIn returns the contents of files for [NewRedactor]. One that cannot be read
// has no secret that this process could write.
func SecretsIn(files []string) []string {
	var out []string
	for _, f := range files {
		if text, err := os.ReadFile(f); err == nil && len(text) <= 1<<20 {
			out = append(out, string(text))
		}
	}
	return out
}

// formsOf returns a secret as programs write it.
func formsOf(s string) []string {
	quoted := strconv.Quote(s)
	out := []string{
		s, quoted[1 : len(quoted)-1], url.QueryEscape(s), url.PathEscape(s), strings.ReplaceAll(s, "'", "''"),
		base64.StdEncoding.EncodeToString([]byte(s)), base64.URLEncoding.EncodeToString([]byte(s)), base64.RawStdEncoding.EncodeToString([]byte(s)),
		hex.EncodeToString([]byte(s)),
	}
	if text, err := json.Marshal(s); err == nil {
		out = append(out, string(text[1:len(text)-1]))
	}
	for _, f := range slices.Clone(out) { // an error that quotes it, in a line of a log
		again := strconv.Quote(f)
		out = append(out, again[1:len(again)-1])
	}
	return out
}

var (
	// privateKey is a private key in PEM, whole or cut off.
	privateKey = regexp.MustCompile(`-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----(?s:.*?)(?:-----END [A-Z0-9 ]*PRIVATE KEY-----|\z)`)
	// userInfo is the user and password of a URL.
	userInfo = regexp.MustCompile(`([A-Za-z][A-Za-z0-9+.-]*://)[^\s/@"']+@`)
	// token is a JSON web token, or one in the header of a request.
	token = regexp.MustCompile(`eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*|(?i:\b(?:bearer|basic) +[A-Za-z0-9._~+/=-]{8,})`)
	// assigned is a name that looks like that of a secret, with its value.
	assigned = regexp.MustCompile(`(?i)([\w.-]*(?:passw|passphrase|secret|token|api[-_]?key|private[-_]?key|credential|authorization|md5[-_ ]?key|psk)[\w.-]*)(\\?["']?\s*[:=]\s*)("(?:[^"\\\n]|\\.)*"|'[^'\n]*'|[^\n"']+)`)
	// notSecret are names of that kind whose values are no secret.
	notSecret = regexp.MustCompile(`(?i)(?:file|path|dir|folder|name|count|bytes|total|seconds)$`)
)

// SecretName reports whether a name looks like that of a secret.
func SecretName(name string) bool {
	m := assigned.FindStringSubmatch(name + "=x")
	return m != nil && m[1] == name && !notSecret.MatchString(name)
}

// Bytes returns a text without secrets.
func (r *Redactor) Bytes(text []byte) []byte {
	text = privateKey.ReplaceAll(text, []byte(Removed))
	text = []byte(r.known.Replace(string(text)))
	text = userInfo.ReplaceAll(text, []byte("${1}"+Removed+"@"))
	text = token.ReplaceAll(text, []byte(Removed))
	return assigned.ReplaceAllFunc(text, func(m []byte) []byte {
		parts := assigned.FindSubmatch(m)
		if notSecret.Match(parts[1]) {
			return m
		}
		value := []byte(Removed)
		if q := parts[3][0]; q == '"' || q == '\'' {
			value = slices.Concat([]byte{q}, value, []byte{q})
		}
		return bytes.Join([][]byte{parts[1], parts[2], value}, nil)
	})
}
