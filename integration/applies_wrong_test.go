package integration

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"
	"unicode/utf8"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"onlink/integration/conf"
	"onlink/integration/lab"
	"onlink/integration/labtest"
	onlinkv1 "onlink/proto/v1"
)

// A mistake names file, line, field and remedy; one of the whole file has no line, and a
// change that needs a restart names its keys.
var (
	mistake = regexp.MustCompile(`onlinkd\.yaml:\d+: [a-zA-Z0-9_.\[\]]+: .+[;,] .+`)
	ofFile  = regexp.MustCompile(`(onlinkd\.yaml(:\d+)?: .+[;?]|read configuration: .+onlinkd\.yaml.*; .+|the file is empty; .+)`)
	restart = regexp.MustCompile(`[a-z]+\.[a-zA-Z.]+: needs a restart of onlinkd`)
	ofPart  = regexp.MustCompile(`bgp\.peers: .*open /nonexistent/key: no such file`)
)

// wrongText is a text that the agent rejects.
type wrongText struct {
	name string
	want *regexp.Regexp
	make func(a *applies, c *conf.Config) []byte
}

// maxText is the size of a text that no message of the API holds.
const maxText = 4 << 20

// inMessage is the reason for a text that a client sends without looking at it.
func (k wrongText) inMessage(text []byte) *regexp.Regexp {
	if len(text) > maxText {
		return regexp.MustCompile("message larger than max")
	}
	return k.want
}

// edit makes the text of a changed configuration.
func edit(change func(*conf.Config)) func(*applies, *conf.Config) []byte {
	return func(a *applies, c *conf.Config) []byte {
		change(c)
		text, err := c.YAML()
		must(a.t, err)
		return text
	}
}

// ending makes a text with something behind it.
func ending(more string) func(*applies, *conf.Config) []byte {
	return func(a *applies, c *conf.Config) []byte { return append(edit(func(*conf.Config) {})(a, c), more...) }
}

func withPeer(p *conf.Peer) func(*applies, *conf.Config) []byte {
	return edit(func(c *conf.Config) { c.BGP.Peers = append(c.BGP.Peers, p) })
}

var wrongTexts = []wrongText{
	{"an open bracket", ofFile, ending("\nlog: [\n")},
	{"a tab", ofFile, ending("\nlog:\n\tlevel: info\n")},
	{"bytes that are no text", ofFile, ending("\n\x00\xff\xfe\n")},
	{"two documents", ofFile, ending("\n---\nlog: {}\n")},
	{"an unknown key", mistake, ending("\nnonsense: 1\n")},
	{"a key twice", mistake, ending("\nnode: {}\n")},
	{"an unknown key of a peer", mistake, ending("\nlog: {colour: red}\n")},
	{"no address", mistake, withPeer(&conf.Peer{Name: "bad", Address: "ten"})},
	{"a time out of bounds", mistake, withPeer(&conf.Peer{Name: "bad", Address: "10.57.1.99", HoldTime: "1s"})},
	{"an address twice", mistake, withPeer(&conf.Peer{Name: "bad", Address: "10.57.1.12"})},
	{"a filter that is not there", mistake, withPeer(&conf.Peer{Name: "bad", Address: "10.57.1.99", Export: conf.Export{Filters: []string{"absent"}}})},
	{"a client without a reflector", mistake, withPeer(&conf.Peer{Name: "bad", Address: "10.57.1.99", Client: true})},
	{"a default route", mistake, edit(func(c *conf.Config) { c.BGP.Originate = append(c.BGP.Originate, "0.0.0.0/0") })},
	{"the network of others", mistake, edit(func(c *conf.Config) { c.BGP.Originate = append(c.BGP.Originate, "10.57.0.0/16") })},
	{"a pool over the network", mistake, edit(func(c *conf.Config) {
		c.Pools = append(c.Pools, conf.Pool{Name: "bad", CIDR: "10.57.0.0/16", Encapsulation: "Never", Tunnel: "none"})
	})},
	{"two pools of one range", mistake, edit(func(c *conf.Config) {
		c.Pools = append(c.Pools, conf.Pool{Name: "bad", CIDR: "10.244.128.0/17", Encapsulation: "Never", Tunnel: "none"})
	})},
	{"a level", mistake, edit(func(c *conf.Config) { c.Log.Level = "loud" })},
	{"a key file that is not there", ofPart, withPeer(&conf.Peer{Name: "bad", Address: "10.57.1.99", PasswordFile: "/nonexistent/key"})},
	{"the AS", restart, edit(func(c *conf.Config) { c.BGP.ASN = 64999 })},
	{"the address of the metrics", restart, edit(func(c *conf.Config) { c.API.Metrics = "127.0.0.1:9999" })},
	{"the name", restart, edit(func(c *conf.Config) { c.Node.Name = "another" })},
	{"a folder", restart, edit(func(c *conf.Config) { c.Paths.State += "/other" })},
	{"a tunnel", regexp.MustCompile("a pool with another kind of tunnel needs a restart"), edit(func(c *conf.Config) {
		c.Pools = append(c.Pools, conf.Pool{Name: "tunnelled", CIDR: "10.246.0.0/16", Encapsulation: "Always", Tunnel: "vxlan"})
	})},
	{"the first part of a file", regexp.MustCompile("needs a restart of onlinkd|" + mistake.String() + "|" + ofFile.String()), func(a *applies, c *conf.Config) []byte {
		text := edit(func(*conf.Config) {})(a, c)
		return text[:1+a.rnd.IntN(bytes.Index(text, []byte("paths:"))-1)]
	}},
	{"ten thousand mistakes", mistake, ending(strings.Repeat("\nnonsense: {a: b}", 10_000))},
	{"too much", ofFile, ending("\n" + strings.Repeat("# a line of a log\n", 300_000))},
}

// wrong makes a change that the agent rejects, and then corrects it.
func (a *applies) wrong() {
	a.t.Helper()
	if a.rnd.IntN(4) == 0 {
		a.wrongFile()
		return
	}
	next := a.plan.clone()
	next.mutate(a.rnd) // what is right in the file is not taken either
	kind := wrongTexts[a.rnd.IntN(len(wrongTexts))]
	text := kind.make(a, next.config(a))
	kind.name += ", through "
	switch way := a.rnd.IntN(8); {
	case way < 2 && utf8.Valid(text): // a message of the API can hold no other text
		kind.name += "the API"
		a.rejected(kind.name, kind.inMessage(text), a.changeError(&onlinkv1.ChangeConfigRequest{Text: string(text), Confirm: a.rnd.IntN(2) == 0}))
		a.unwritten(kind.name)
	case way == 2:
		kind.name += "onlinkctl config apply"
		if !utf8.Valid(text) || len(text) > maxText {
			kind.want = regexp.MustCompile("next.yaml is (no UTF-8 text|larger than [0-9]+ KiB); ")
		}
		a.rejected(kind.name, kind.want, a.onlinkctl("config", "apply", a.beside(text)))
		a.unwritten(kind.name)
	default:
		a.write(text)
		a.readWrong(kind.name, kind.want)
	}
}

// readWrong has the agent read its file, which it must reject.
func (a *applies) readWrong(name string, want *regexp.Regexp) {
	a.t.Helper()
	switch way := a.rnd.IntN(8); {
	case way < 1 && a.plan.watch:
		name += "reload: watch"
		a.rejected(name, want, a.problem())
	case way < 4:
		name += "SIGHUP"
		a.hangUp()
		a.rejected(name, want, a.problem())
	case way < 5:
		name += "onlinkctl config reload"
		a.rejected(name, want, a.onlinkctl("config", "reload"))
	default:
		name += "ReloadConfig"
		a.rejected(name, want, a.reloadError())
	}
	a.check(name)
	a.shown(name)
	a.correct()
}

// shown wants a rejected file to be there for an operator who looks at it, with the reason.
func (a *applies) shown(name string) {
	a.t.Helper()
	admin, err := a.n.Admin()
	must(a.t, err)
	reply, err := admin.GetConfig(a.ctx, &onlinkv1.GetConfigRequest{})
	info, absent := os.Stat(a.n.ConfigFile())
	switch {
	case absent != nil || !info.Mode().IsRegular():
	case info.Size() > maxText:
		if err == nil || !strings.Contains(err.Error(), "onlinkd.yaml has more than") {
			a.t.Errorf("%s: config show of a file that no answer can hold: %v", name, err)
		}
	case err != nil || reply.GetProblem() == "":
		a.t.Errorf("%s: config show: %v, problem %q", name, err, reply.GetProblem())
	}
}

// wrongFile puts something else into the file's place.
func (a *applies) wrongFile() {
	a.t.Helper()
	file := a.n.ConfigFile()
	must(a.t, os.Remove(file))
	name := "no file, through "
	want := ofFile
	switch a.rnd.IntN(6) {
	case 0:
		name = "a folder, through "
		must(a.t, os.Mkdir(file, 0o755))
	case 1:
		name = "a pipe, through "
		must(a.t, syscall.Mkfifo(file, 0o600))
	case 2:
		name = "a link to nothing, through "
		must(a.t, os.Symlink("absent", file))
	case 3:
		name = "a link to itself, through "
		must(a.t, os.Symlink(filepath.Base(file), file))
	case 4: // all defaults, or the program that writes it ran out of disk
		name, want = "an empty file, through ", regexp.MustCompile("needs a restart of onlinkd|the file is empty; write {}")
		must(a.t, os.WriteFile(file, nil, 0o600))
	}
	a.readWrong(name, want)
}

// rejected wants a reason in the form that it must have.
func (a *applies) rejected(name string, want *regexp.Regexp, reason string) {
	a.t.Helper()
	if !want.MatchString(reason) {
		a.t.Errorf("%s: the reason is %.500q, want %s", name, reason, want)
	}
}

// unwritten wants the file as it was, after a change that the API rejected.
func (a *applies) unwritten(name string) {
	a.t.Helper()
	text, err := a.file()
	must(a.t, err)
	if !bytes.Equal(text, a.text) {
		a.t.Errorf("%s: the file was written, though the change was rejected:\n%s", name, text)
	}
	if p := a.trouble(); p != "" {
		a.t.Errorf("%s: a rejected call is a problem of the file: %s", name, p)
	}
}

// correct puts the good file back, and has it read.
func (a *applies) correct() {
	a.t.Helper()
	_ = os.Remove(a.n.ConfigFile()) // a folder is in the way of a rename
	a.write(a.textOf(a.plan))
	a.reload()
	a.take(a.plan)
	if p := a.trouble(); p != "" {
		a.t.Errorf("the file is corrected, and the problem stays: %s", p)
	}
}

// hold makes a change that is held, and then confirms or corrects it.
func (a *applies) hold() {
	a.t.Helper()
	next, want, harmless := a.removal()
	text, err := next.YAML()
	must(a.t, err)
	text = a.numbered(text)
	inFile := a.rnd.IntN(2) == 0
	if inFile {
		a.write(text)
		a.hangUp()
	} else if reply := a.send(text, nil); reply.GetHeld() == nil {
		a.t.Errorf("a change that removes %s is not held: %v", want, reply)
	}
	var held *onlinkv1.HeldChange
	must(a.t, lab.Eventually(a.ctx, labtest.Patience, "a held change that would remove "+want, func() error {
		st, err := a.n.Status(a.ctx)
		if err != nil {
			return err
		}
		for _, held = range st.GetHeld() {
			if strings.Contains(held.GetReason(), want) {
				return nil
			}
		}
		return fmt.Errorf("held %v, problems %q", st.GetHeld(), st.GetProblems())
	}))
	if !inFile {
		a.unwritten("held: " + want)
	}
	a.check("held: " + want)
	admin, err := a.n.Admin()
	must(a.t, err)
	if harmless != nil && a.rnd.IntN(2) == 0 {
		if _, err := admin.Confirm(a.ctx, &onlinkv1.ConfirmRequest{Digest: held.GetDigest()}); err != nil {
			a.t.Errorf("confirm that %s goes: %v", want, err)
		}
		a.take(*harmless)
		return
	}
	if inFile && a.rnd.IntN(2) == 0 { // it was edited since
		a.write(append(text, "# edited\n"...))
		if _, err := admin.Confirm(a.ctx, &onlinkv1.ConfirmRequest{Digest: held.GetDigest()}); err == nil {
			a.t.Errorf("a change that was held is made, though the file is another one: %s", want)
		}
	}
	a.correct()
	st, err := a.n.Status(a.ctx)
	must(a.t, err)
	if len(st.GetHeld()) > 0 {
		a.t.Errorf("the file is corrected, and %v is held", st.GetHeld())
	}
}

// removal returns a configuration that would remove much, and what. harmless is its plan,
// where it leaves the sessions alone; nil: it does not.
func (a *applies) removal() (next *conf.Config, want string, harmless *plan) {
	a.t.Helper()
	without := a.plan.clone()
	switch a.rnd.IntN(4) {
	case 0:
		next = a.plan.config(a)
		next.BGP.Peers = nil
		return next, "every session", nil
	case 1:
		next = a.plan.config(a)
		next.BGP.Filters = append(next.BGP.Filters, conf.Filter{Name: "nothing", Rules: []conf.FilterRule{{Action: "reject"}}})
		for _, p := range next.BGP.Peers {
			p.Export.Filters, p.Export.Aggregates = []string{"nothing"}, nil
		}
		return next, " announcements (", nil
	case 2:
		for host := range 4 {
			without.phantoms[200+host] = "plain"
		}
		a.send(a.textOf(without), nil)
		a.take(without)
		without = without.clone()
		clear(without.phantoms)
		return without.config(a), "peers (", &without
	default:
		without.pools = map[int]bool{0: true, 1: true, 2: true}
		a.send(a.textOf(without), nil)
		a.take(without)
		without = without.clone()
		clear(without.pools)
		return without.config(a), "pools (", &without
	}
}

// ask makes no change: it only asks what one would do.
func (a *applies) ask() {
	a.t.Helper()
	next := a.plan.clone()
	next.mutate(a.rnd)
	c, reason := next.config(a), ""
	switch a.rnd.IntN(3) {
	case 0:
		c.BGP.Peers = nil
		reason = "every session"
	case 1:
		kind := wrongTexts[a.rnd.IntN(len(wrongTexts))]
		text := bytes.ToValidUTF8(kind.make(a, c), []byte{0}) // which is no text of YAML either
		a.rejected("a dry run of "+kind.name, kind.inMessage(text), a.changeError(&onlinkv1.ChangeConfigRequest{Text: string(text), DryRun: true, Forecast: 3, Confirm: true}))
		a.unwritten("a dry run of " + kind.name)
		return
	}
	text, err := c.YAML()
	must(a.t, err)
	reply := a.send(text, func(r *onlinkv1.ChangeConfigRequest) { r.DryRun, r.Forecast = true, 3 })
	if got := reply.GetHeld().GetReason(); !strings.Contains(got, reason) || reason == "" && got != "" {
		a.t.Errorf("a dry run would hold %q, want %q", got, reason)
	}
	a.unwritten("a dry run")
	st, err := a.n.Status(a.ctx)
	must(a.t, err)
	if len(st.GetHeld()) > 0 {
		a.t.Errorf("a dry run holds %v", st.GetHeld())
	}
}

// operate does what an operator does beside the configuration, with a change of that
// meanwhile.
func (a *applies) operate() {
	a.t.Helper()
	admin, err := a.n.Admin()
	must(a.t, err)
	control := func(peer string, action onlinkv1.PeerAction) {
		_, err := admin.ControlPeer(a.ctx, &onlinkv1.ControlPeerRequest{Peer: peer, Action: action, Reason: "a test"})
		must(a.t, err)
	}
	switch what := a.rnd.IntN(4); {
	case what == 0:
		short, cancel := a.within(300 * time.Millisecond)
		_, err := admin.Drain(short, &onlinkv1.DrainRequest{Wait: durationpb.New(time.Hour)})
		cancel()
		if code := status.Code(err); code != codes.DeadlineExceeded {
			a.t.Errorf("a drain of an hour ended: %v", err)
		}
		a.drained = true
		a.good()
		a.check("a good change while it drains")
		_, err = admin.Undrain(a.ctx, &onlinkv1.UndrainRequest{})
		must(a.t, err)
		a.drained = false
	case what == 1 && !a.plan.absent:
		control(a.victim.Name, onlinkv1.PeerAction_PEER_ACTION_DISABLE)
		a.disabled = true
		a.good()
		a.check("a good change while a session is disabled")
		if !a.plan.absent {
			control(a.victim.Name, onlinkv1.PeerAction_PEER_ACTION_ENABLE)
		}
		a.disabled = false
	case what == 2 && !a.plan.absent:
		control(a.victim.Name, onlinkv1.PeerAction_PEER_ACTION_RESET)
		a.good()
	default:
		control(a.tor.Name, []onlinkv1.PeerAction{onlinkv1.PeerAction_PEER_ACTION_REFRESH_IN, onlinkv1.PeerAction_PEER_ACTION_REFRESH_OUT}[a.rnd.IntN(2)])
		a.good()
	}
}
