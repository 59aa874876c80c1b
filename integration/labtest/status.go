package labtest

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"onlink/integration/lab"
	onlinkv1 "onlink/proto/v1"
)

// LacksProblem returns an error when a problem in a node's status contains word.
func LacksProblem(ctx context.Context, n *lab.Node, word string) error {
	if Problem(ctx, n, word) == nil {
		return fmt.Errorf("%s has a problem with %q already", n.Name, word)
	}
	return nil
}

// OwnerOf returns the node that owns a block in the registry.
func OwnerOf(ctx context.Context, t *testing.T, n *lab.Node, block netip.Prefix) string {
	t.Helper()
	admin, err := n.Admin()
	Must(t, err)
	reply, err := admin.ListBlocks(ctx, &onlinkv1.ListBlocksRequest{All: true})
	Must(t, err)
	for _, b := range reply.GetBlocks() {
		if b.GetCidr() == block.String() {
			return b.GetNode()
		}
	}
	return ""
}

// HasMetric returns an error when a node's metrics lack a line.
func HasMetric(ctx context.Context, n *lab.Node, line string) error {
	text, err := Metrics(ctx, n)
	if err != nil {
		return err
	}
	for have := range strings.Lines(text) {
		if strings.TrimSpace(have) == line {
			return nil
		}
	}
	return fmt.Errorf("metrics of %s lack %s", n.Name, line)
}

// Metrics reads all metrics of a node.
func Metrics(ctx context.Context, n *lab.Node) (string, error) {
	return Scrape(ctx, n.NS, "127.0.0.1:9179")
}

// Scrape reads all metrics of a program that serves them at an address of a namespace.
func Scrape(ctx context.Context, ns *lab.NS, address string) (string, error) {
	client := &http.Client{Transport: &http.Transport{DialContext: ns.Dial, DisableKeepAlives: true}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/metrics", http.NoBody)
	if err != nil {
		return "", err
	}
	reply, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer reply.Body.Close()
	body, err := io.ReadAll(reply.Body)
	return string(body), err
}

// WantCtl runs onlinkctl and requires an exit code and a word of output.
func WantCtl(ctx context.Context, t *testing.T, n *lab.Node, code int, word string, args ...string) {
	t.Helper()
	out, err := n.Ctl(ctx, args...)
	Must(t, err)
	if out.Code != code || !strings.Contains(out.Stdout, word) {
		t.Errorf("onlinkctl %v: exit code %d, want %d with %q\n%s%s", args, out.Code, code, word, out.Stdout, out.Stderr)
	}
}

// Problem returns an error when no problem in a node's status contains word.
func Problem(ctx context.Context, n *lab.Node, word string) error {
	st, err := n.Status(ctx)
	if err != nil {
		return err
	}
	for _, p := range st.GetProblems() {
		if strings.Contains(p, word) {
			return nil
		}
	}
	return fmt.Errorf("no problem with %q in %q", word, st.GetProblems())
}

// WantPath waits until explain of a block's first address contains text.
func WantPath(ctx context.Context, t *testing.T, n *lab.Node, block netip.Prefix, text string) {
	t.Helper()
	Must(t, lab.Eventually(ctx, Patience, text, func() error {
		out, err := n.Ctl(ctx, "explain", block.Addr().String())
		if err == nil && !strings.Contains(out.Stdout, text) {
			err = fmt.Errorf("%s says:\n%s", n.Name, out.Stdout)
		}
		return err
	}))
}
