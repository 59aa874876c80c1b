package glass

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"onlink/integration/lab"
	"onlink/integration/labtest"
)

// programVariable names the browser.
const programVariable = "ONLINK_CHROMIUM"

// program is the browser's.
func program() string { return os.Getenv(programVariable) }

// browser is a page in Debian's headless Chromium, which runs in a network namespace: it
// reaches what that namespace reaches.
type browser struct {
	*testing.T

	ctx context.Context // chromedp has the page in it

	mu       sync.Mutex
	requests []string // guarded by mu; addresses
	faults   []string // guarded by mu; on the console: errors, exceptions, violations of the policy
}

// startBrowser starts a browser in a namespace, until the test ends.
func startBrowser(ctx context.Context, t *testing.T, ns *lab.NS) *browser {
	t.Helper()
	enter, err := exec.LookPath("nsenter")
	labtest.Must(t, err)
	inside := func(cmd *exec.Cmd) {
		cmd.Args = append([]string{enter, "--net=" + ns.Path()}, cmd.Args...)
		cmd.Path = enter
	}
	// The defaults keep the browser from asking its maker's servers for updates and more.
	opts := append(slices.Clone(chromedp.DefaultExecAllocatorOptions[:]), chromedp.ExecPath(program()), chromedp.ModifyCmdFunc(inside), chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.WindowSize(1280, 1180), chromedp.UserDataDir(t.TempDir()), chromedp.Flag("disable-component-update", true), chromedp.Flag("hide-scrollbars", true))
	allocator, end := chromedp.NewExecAllocator(ctx, opts...)
	t.Cleanup(end)
	page, end := chromedp.NewContext(allocator)
	t.Cleanup(end)
	b := &browser{T: t, ctx: page}
	labtest.Must(t, chromedp.Listen(page, b.note))
	for _, enable := range []func() (cdp.Empty, error){
		func() (cdp.Empty, error) { return chromedp.Call(page, network.Enable, network.EnableParams{}) },
		func() (cdp.Empty, error) { return chromedp.Call(page, log.Enable, cdp.Empty{}) },
		func() (cdp.Empty, error) { return chromedp.Call(page, runtime.Enable, cdp.Empty{}) },
	} {
		_, err := enable()
		labtest.Must(t, err)
	}
	return b
}

// note records requests and faults.
func (b *browser) note(ev any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch e := ev.(type) {
	case *network.EventRequestWillBeSent:
		b.requests = append(b.requests, e.Request.URL)
	case *runtime.EventExceptionThrown:
		b.faults = append(b.faults, fmt.Sprintf("exception: %+v", e.ExceptionDetails))
	case *runtime.EventConsoleAPICalled:
		b.faults = append(b.faults, fmt.Sprintf("console %s: %+v", e.Type, e.Args))
	case *log.EventEntryAdded:
		b.faults = append(b.faults, fmt.Sprintf("%s %s: %s %s", e.Entry.Source, e.Entry.Level, e.Entry.Text, e.Entry.URL))
	}
}

// clean requires that nothing but the page's own host was asked for anything, and that
// nothing is on the console besides what a test allows.
func (b *browser) clean(origin string, allowed func(fault string) bool) {
	b.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, url := range b.requests {
		if !strings.HasPrefix(url, origin+"/") {
			b.Errorf("the page asked for %s", url)
		}
	}
	for _, f := range b.faults {
		if !allowed(f) {
			b.Errorf("the console has: %s", f)
		}
	}
	if len(b.requests) == 0 {
		b.Error("the page asked for nothing")
	}
}

// do does something in the page.
func (b *browser) do(actions ...chromedp.Action[chromedp.Void]) {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	labtest.Must(b.T, chromedp.Do(ctx, actions...))
}

// value returns what an action, such as an expression of JavaScript, gives.
func value[T any](b *browser, a chromedp.Action[T]) T {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	v, err := chromedp.Run(ctx, a)
	labtest.Must(b.T, err)
	return v
}

// holds waits until an expression is true, for as long as a page may take to show a change.
func (b *browser) holds(what, expression string) {
	b.Helper()
	labtest.Must(b.T, lab.Eventually(b.ctx, patience, what, func() error {
		ok, err := chromedp.Run(b.ctx, chromedp.Evaluate[bool]("!!("+expression+")"))
		if err != nil {
			return err
		}
		if !ok {
			return fmt.Errorf("%s is not true", expression)
		}
		return nil
	}))
}

// patience is how long a page may take to show what the agent has.
const patience = 30 * time.Second
