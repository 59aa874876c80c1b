package namespaces

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func onNode() []Pool { return []Pool{{"a", true}, {"b", true}, {"closed", false}, {"away", false}} }

func opened(t *testing.T, dir string) *Choices {
	t.Helper()
	c, err := Open(dir, onNode)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestOf: a choice is in its order without what does not exist and what is closed,
// and outlives the agent.
func TestOf(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := opened(t, dir)
	if got := c.Of("shop"); got != nil || len(c.Problems()) != 0 {
		t.Errorf("before any choice: %q, problems %q", got, c.Problems())
	}
	if err := c.Set([]Choice{
		{"shop", []string{"b", "a"}},
		{"part", []string{"gone", "closed", "a"}},
		{"lost", []string{"gone"}},
		{"shut", []string{"closed", "gone", "away"}},
		{"none", nil},
	}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []*Choices{c, opened(t, dir)} {
		for namespace, want := range map[string][]string{
			"shop": {"b", "a"}, "part": {"a"}, "lost": nil, "shut": {"closed", "away"}, "none": nil, "other": nil,
		} {
			if d := cmp.Diff(want, c.Of(namespace), cmpopts.EquateEmpty()); d != "" {
				t.Errorf("%s (-want +got):\n%s", namespace, d)
			}
		}
		if p := c.Problems(); len(p) != 1 || !strings.Contains(p[0], "gone (of namespace lost)") {
			t.Errorf("problems %q, want one that names the pool", p)
		}
		if list := c.List(); len(list) != 4 || list[0].Namespace != "lost" || list[3].Namespace != "shut" {
			t.Errorf("listed: %v", list)
		}
	}
}

// TestSetRefuses: a choice with a mistake changes nothing, and the bounds hold.
func TestSetRefuses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := opened(t, dir)
	if err := c.Set([]Choice{{"shop", []string{"a"}}}); err != nil {
		t.Fatal(err)
	}
	pools := make([]string, maxPools+1)
	for i := range pools {
		pools[i] = fmt.Sprint("p", i)
	}
	many := make([]Choice, maxNamespaces+1)
	for i := range many {
		many[i] = Choice{fmt.Sprint("n", i), []string{"a"}}
	}
	for name, list := range map[string][]Choice{
		"no name": {{"", []string{"a"}}}, "a space": {{"x y", []string{"a"}}}, "long": {{strings.Repeat("x", maxName+1), nil}},
		"no UTF-8": {{"\xff", nil}}, "twice": {{"x", nil}, {"x", nil}}, "a pool twice": {{"x", []string{"a", "a"}}},
		"a pool without a name": {{"x", []string{""}}}, "many pools": {{"x", pools}}, "many": many,
	} {
		if err := c.Set(list); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := c.Set(many[1:]); err != nil {
		t.Errorf("as many as may be: %v", err)
	}
	if err := c.Set([]Choice{{"x", pools[1:]}}); err != nil {
		t.Errorf("as many pools as may be: %v", err)
	}
	if p := c.Problems(); len(p) != 1 || !strings.Contains(p[0], "61 more") || len(p[0]) > 400 {
		t.Errorf("problems %q, want one short line", p)
	}
}

// TestDamaged: a damaged file is moved aside and is a problem until the choices are
// sent again; one that cannot be written changes nothing.
func TestDamaged(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, fileName), []byte(`{"shop": ["a"`), 0o600); err != nil {
		t.Fatal(err)
	}
	c := opened(t, dir)
	if p := c.Problems(); len(p) != 1 || !strings.Contains(p[0], "was damaged") || c.Of("shop") != nil {
		t.Errorf("problems %q, pools %q", p, c.Of("shop"))
	}
	if _, err := os.Stat(filepath.Join(dir, fileName+".damaged")); err != nil {
		t.Error(err)
	}
	if err := c.Set([]Choice{{"shop", []string{"a"}}}); err != nil || len(c.Problems()) != 0 {
		t.Errorf("%v, problems %q", err, c.Problems())
	}
	c.path = filepath.Join(dir, "no", "folder")
	if err := c.Set(nil); err == nil || len(c.List()) != 1 {
		t.Errorf("%v, choices %v: the next start would have others", err, c.List())
	}
}
