// Package glass tests the looking glass in a browser: Debian's headless Chromium opens the
// page of a running agent in a lab. make test-glass runs it.
//
//go:debug multipathtcp=0
package glass

import (
	"context"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/accessibility"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"onlink/integration/conf"
	"onlink/integration/lab"
	"onlink/integration/labtest"
)

// picture is where the screenshot for the documentation is written:
//
//	make test-glass PICTURE=docs/pictures/glass.png
var picture = flag.String("glass.picture", "", "write the screenshot to this `file`")

// TestMain runs nothing without a browser, which is 300 MB that no other test needs:
// make test-glass installs it.
func TestMain(m *testing.M) {
	if program() == "" {
		fmt.Println("make test-glass runs these tests; $" + programVariable + " names no browser")
		os.Exit(0)
	}
	os.Exit(labtest.Main(m))
}

// origin is where the page is, in the node's namespace.
const origin = "http://127.0.0.1:9181"

// TestGlass opens the page of a node in a lab of two racks and looks at each view; a session
// dies, a path breaks and the agent restarts, and the page shows it without a reload. Texts
// of a peer stay texts, nothing but the agent is asked, and the console stays empty.
func TestGlass(t *testing.T) {
	ctx, l := labtest.Build(t, lab.Spec{
		Name: "glass", Racks: 2, NodesPerRack: 2, Service: netip.MustParsePrefix("198.18.0.0/16"), Pool: lab.Pool{Tunnel: "vxlan"},
	})
	n := l.Node("r1n1")
	n.Edit = func(c *conf.Config) { c.API.Glass = "127.0.0.1:9181" }
	labtest.StartWithPods(ctx, t, l)
	g := &page{browser: startBrowser(ctx, t, n.NS), lab: l, node: n}
	g.do(chromedp.Navigate(origin+"/"), chromedp.Evaluate[chromedp.Void]("window.opened = 'once'"))
	g.holds("the stream", `document.querySelector("#connection").textContent === "live"`)
	for _, part := range []struct {
		name string
		run  func(ctx context.Context)
	}{
		{"network", g.network},
		{"explain", g.explain},
		{"routes", g.routes},
		{"session", g.session},
		{"picture", g.picture},
		{"many racks", g.manyRacks},
		{"names", g.names},
		{"dark", g.dark},
		{"a session dies", g.sessionDies},
		{"the page is switched off and on", g.switched},
		{"the agent restarts", g.restarted},
	} {
		t.Run(part.name, func(t *testing.T) {
			g.T = t
			part.run(ctx)
		})
	}
	g.T = t
	if got := value(g.browser, chromedp.Evaluate[string]("window.opened")); got != "once" {
		t.Errorf("the page was loaded again: %q", got)
	}
	g.clean(origin, func(fault string) bool {
		// The answer to a mistake, and the stream while the agent was away.
		return strings.Contains(fault, "status of 400") && strings.Contains(fault, "/api/explain?to=%3Cb%3E") ||
			strings.Contains(fault, "ERR_CONNECTION_REFUSED") || strings.Contains(fault, "ERR_INCOMPLETE_CHUNKED_ENCODING") || strings.Contains(fault, "ERR_EMPTY_RESPONSE")
	})
}

// page is the page of a node.
type page struct {
	*browser

	lab  *lab.Lab
	node *lab.Node
}

// row is an expression for the row of a peer.
func row(p netip.Addr) string { return fmt.Sprintf(`document.querySelector('tr[data-peer="%s"]')`, p) }

// way is an expression for the way to a node that is drawn.
func way(n *lab.Node) string {
	return fmt.Sprintf(`document.querySelector('[data-node="%s"]')?.dataset.way`, n.Addr)
}

// write replaces the text of an input, with keys.
func (g *page) write(id, keys string) {
	g.Helper()
	g.do(chromedp.Evaluate[chromedp.Void]("document.getElementById('"+id+"').value = ''"), chromedp.SendKeys(chromedp.ID(id), keys))
}

// network: sessions, and the drawing of ToR, reflector, and both kinds of ways.
func (g *page) network(context.Context) {
	tor, rr := g.lab.ToRs()[0], g.lab.Reflectors()[0]
	for _, addr := range []netip.Addr{tor.Addr, rr.Addr} {
		g.holds("the session of "+addr.String(), row(addr)+`.textContent.includes("Established")`)
		g.holds("its router", fmt.Sprintf(`document.querySelector('[data-router="%s"]').dataset.up === "true"`, addr))
	}
	g.holds("the direct way", way(g.lab.Node("r1n2"))+` === "direct"`)
	g.holds("the tunnel", way(g.lab.Node("r2n1"))+` === "tunnel"`)
	g.holds("the reflector is known as one", `document.querySelector("#drawing").textContent.includes("reflector, AS 64512")`)
	g.holds("the title", `document.title === "r1n1: onlink looking glass"`)
	g.holds("no problem", `document.querySelector("#problems").hidden`)
}

// explain: a whole path, then one that a blackhole route breaks. The question is typed and
// sent with the keyboard.
func (g *page) explain(ctx context.Context) {
	to := labtest.AddrOf(labtest.PodOf(g.lab, "r1n2"), false)
	ask := func() {
		g.write("explain-to", to.String()+kb.Enter)
	}
	ask()
	g.holds("the whole path", `document.querySelector("#verdict")?.textContent.startsWith("Works: ")`)
	blackhole := func(verb string) {
		labtest.Must(g.T, g.node.NS.Do(func() error {
			if out, err := exec.CommandContext(ctx, "ip", "route", verb, "blackhole", to.String()+"/32").CombinedOutput(); err != nil {
				return fmt.Errorf("%w: %s", err, out)
			}
			return nil
		}))
	}
	blackhole("add")
	ask()
	g.holds("the cause", `document.querySelector("#cause")?.textContent === "route.foreign"`)
	g.holds("the section", `document.querySelector("#explain-answer").textContent.includes("docs/troubleshooting.md, section “route.foreign”")`)
	blackhole("del")
	g.write("explain-to", "<b>pod</b>"+kb.Enter)
	g.holds("the mistake", `document.querySelector("#explain-answer").textContent.includes('to: "<b>pod</b>" is no IP address')`)
	ask() // for the picture
	g.holds("the whole path again", `document.querySelector("#verdict")?.textContent.startsWith("Works: ")`)
}

// routes: the paths to the block of another node.
func (g *page) routes(ctx context.Context) {
	block := labtest.BlockOf(ctx, g.T, g.lab.Node("r2n1"))
	g.write("prefix", block.String()+kb.Enter)
	g.holds("the route", `document.querySelector("#routes-answer").textContent.includes("tunnel via 10.57.2.11")`)
	g.holds("its path", `document.querySelector("#routes-answer h3")?.textContent === "Paths to `+block.String()+`" && document.querySelector("#routes-answer").textContent.includes("the best path")`)
}

// session: a session in detail, opened and closed with the keyboard, and the filter.
func (g *page) session(context.Context) {
	tor := g.lab.ToRs()[0]
	name := fmt.Sprintf(`tr[data-peer="%s"] button`, tor.Addr)
	g.do(chromedp.Focus(chromedp.CSS(name)), chromedp.KeyEvent(kb.Enter))
	g.holds("the details", row(tor.Addr)+`.nextSibling.textContent.includes("hold time, negotiated")`)
	g.do(chromedp.KeyEvent(kb.Enter)) // the button has the focus still, though its row was written again
	g.holds("no details", row(tor.Addr)+`.nextSibling.hidden`)
	g.write("filter", "ebgp")
	g.holds("the filter", `document.querySelectorAll("tr[data-peer]").length === 1 && `+row(tor.Addr))
	g.write("filter", kb.Enter)
	g.holds("all sessions", `document.querySelectorAll("tr[data-peer]").length === 2`)
}

// picture: the screenshot of the page.
func (g *page) picture(context.Context) {
	g.do(chromedp.Evaluate[chromedp.Void]("document.activeElement.blur(); scrollTo(0, 0)"))
	png := value(g.browser, chromedp.CaptureScreenshot())
	if !strings.HasPrefix(string(png), "\x89PNG") || len(png) < 10_000 {
		g.Errorf("the screenshot has %d bytes", len(png))
	}
	if *picture != "" {
		labtest.Must(g.T, os.WriteFile(*picture, png, 0o644))
	}
}

// manyRacks: 2,000 nodes in 50 racks are drawn at once, as racks.
func (g *page) manyRacks(context.Context) {
	took := value(g.browser, chromedp.Evaluate[float64](`(async () => {
		const racks = [];
		for (let i = 0; i < 50; i++) racks.push({ id: "10.60." + i + ".0/24", nodes: 40, ways: { tunnel: 39, direct: 1 }, stale: i % 7, down: 0, members: [], more: 40 });
		const topology = await import("./topology.js");
		const began = performance.now();
		topology.update({ self: { name: "r1n1", address: "10.57.1.11", rack: "10.60.0.0/24" }, routers: [], moreRouters: 0, racks, moreRacks: 3, nodes: 2000 });
		document.querySelector("#drawing svg").getBoundingClientRect();
		const took = performance.now() - began;
		if (document.querySelectorAll("[data-rack]").length !== 50) throw new Error("racks");
		if (!document.querySelector("#topology-summary").textContent.startsWith("2000 other nodes in 53 racks")) throw new Error("summary");
		return took;
	})()`, chromedp.EvalAwaitPromise))
	if took > 2000 {
		g.Errorf("the drawing of 50 racks took %.0f ms", took)
	}
}

// names: everything that takes the focus has a name for screen readers.
func (g *page) names(context.Context) {
	tree, err := chromedp.Call(g.ctx, accessibility.GetFullAXTree, accessibility.GetFullAXTreeParams{})
	labtest.Must(g.T, err)
	found := 0
	for _, n := range tree.Nodes {
		if n.Ignored || n.Role == nil || !slices.Contains([]string{`"button"`, `"textbox"`, `"link"`, `"region"`, `"navigation"`}, string(n.Role.Value)) {
			continue
		}
		found++
		if n.Name == nil || string(n.Name.Value) == `""` {
			g.Errorf("a %s has no name", n.Role.Value)
		}
	}
	if found < 15 {
		g.Errorf("%d elements with such a role", found)
	}
}

// dark: the page follows the colour scheme of the system.
func (g *page) dark(context.Context) {
	const colour = `getComputedStyle(document.body).backgroundColor`
	light := value(g.browser, chromedp.Evaluate[string](colour))
	_, err := chromedp.Call(g.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: "dark"}},
	})
	labtest.Must(g.T, err)
	if dark := value(g.browser, chromedp.Evaluate[string](colour)); dark == light {
		g.Errorf("the background is %s, light and dark", dark)
	}
}

// sessionDies: the ToR ends the session with a reason that is HTML. The page shows it as
// text, in the table, the drawing and the events, and the session that comes up again.
func (g *page) sessionDies(context.Context) {
	tor := g.lab.ToRs()[0]
	ask := func(command string) {
		_, err := tor.BIRD(command)
		labtest.Must(g.T, err)
	}
	const reason = `<img src=x onerror=document.title=1>`
	ask(`disable ` + g.node.Name + ` "` + reason + `"`)
	g.holds("the session is down", `!`+row(tor.Addr)+`.textContent.includes("Established")`)
	g.holds("the reason is a text", row(tor.Addr)+".textContent.includes('"+reason+"')")
	g.holds("the router is down", fmt.Sprintf(`document.querySelector('[data-router="%s"]').dataset.up === "false"`, tor.Addr))
	g.holds("the problem", "document.querySelector('#problem-list').textContent.includes('"+reason+"')")
	g.holds("the event", "document.querySelector('#event-list').textContent.includes('Established → ') && document.querySelector('#event-list').textContent.includes('"+reason+"')")
	g.holds("no image", `document.images.length === 0 && document.title.startsWith("r1n1")`)
	ask(`enable ` + g.node.Name)
	g.holds("the session is up again", row(tor.Addr)+`.textContent.includes("Established")`)
	g.holds("the event of that", `document.querySelector("#event-list li").textContent.includes("→ Established")`)
}

// switched: a reload of the file switches the page off and on, in the same process.
func (g *page) switched(ctx context.Context) {
	pid := g.node.Process().Pid()
	off := g.node.Edited()
	off.API.Glass = ""
	labtest.Reload(ctx, g.T, g.node, off)
	g.holds("no connection", `document.querySelector("#connection").textContent === "no connection to the agent"`)
	labtest.Reload(ctx, g.T, g.node, g.node.Edited())
	g.holds("the stream again", `document.querySelector("#connection").textContent === "live"`)
	if g.node.Process().Pid() != pid {
		g.Error("the agent was started again")
	}
	open := g.node.Edited()
	open.API.Glass = g.node.Addr.String() + ":9181"
	labtest.RefuseReload(ctx, g.T, g.node, open)
	g.holds("the remedy", `document.querySelector("#problem-list").textContent.includes("permit it with glassOpen: true")`)
}

// restarted: the page finds the agent again.
func (g *page) restarted(ctx context.Context) {
	labtest.Must(g.T, g.node.Stop())
	g.holds("no connection", `document.querySelector("#connection").textContent === "no connection to the agent"`)
	labtest.StartNode(ctx, g.T, g.node)
	g.holds("the stream again", `document.querySelector("#connection").textContent === "live"`)
	g.holds("a young agent", `document.querySelector("#facts time").textContent.endsWith(" s ago")`)
}
