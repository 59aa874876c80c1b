package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"onlink/integration/lab"
	"onlink/integration/screen"
)

// transferSize is what each ordered pair of pods sends by TCP, in bytes.
const transferSize = 256 << 10

// tellDemo runs the story from an empty machine to an empty machine. The first
// thing that is not true ends it, with the evidence.
func tellDemo(ctx context.Context, o options, out *screen.Screen) error {
	l, err := bringUp(ctx, o, out)
	if err == nil {
		err = checkEverything(ctx, l, out)
	}
	if err != nil {
		out.Say("NOT TRUE: %v", err)
		if l == nil {
			return exitError(1)
		}
		showLogs(l, out)
		if o.keep {
			if shellErr := shell(ctx, l, out); shellErr != nil {
				out.Say("shell: %v", shellErr)
			}
		}
		return errors.Join(exitError(1), l.Close())
	}
	if err := l.Close(); err != nil {
		return err
	}
	out.Checked("clean-up", "namespaces, devices and processes of the lab are gone")
	out.Summary()
	out.Say("all of it is true")
	return nil
}

// checkEverything looks at the running lab, then takes the pods away.
func checkEverything(ctx context.Context, l *lab.Lab, out *screen.Screen) error {
	if err := showRoutes(ctx, l, out); err != nil {
		return err
	}
	if err := checkTraffic(ctx, l, out); err != nil {
		return err
	}
	return takeDown(ctx, l, out)
}

// showRoutes prints every node's route table with the reasons, and compares it
// with the kernel's.
func showRoutes(ctx context.Context, l *lab.Lab, out *screen.Screen) error {
	total := 0
	for _, n := range l.Nodes() {
		out.Title(fmt.Sprintf("routes of %s (%s, rack %d)", n.Name, n.Addr, n.Rack))
		routes, err := n.Routes(ctx)
		if err != nil {
			return err
		}
		rows := [][]string{{"PREFIX", "KIND", "VIA", "DEV", "REASON", "IN KERNEL"}}
		for _, r := range routes {
			installed := "yes"
			if !r.GetInstalled() {
				installed = "no " + r.GetError()
			}
			first := []string{r.GetPrefix(), r.GetKind()}
			if len(r.GetHops()) == 0 {
				rows = append(rows, append(first, "-", "-", r.GetReason(), installed))
			}
			for _, h := range r.GetHops() {
				rows = append(rows, append(first, orDash(h.GetVia()), h.GetDev(), h.GetReason(), installed))
				first = []string{"", ""}
			}
		}
		out.Columns(rows)
		count, err := n.CompareRoutes(ctx)
		if err != nil {
			return err
		}
		total += count
	}
	out.Checked("route tables", "%d routes decided on %d nodes, the kernels hold exactly these", total, len(l.Nodes()))
	return nil
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// checkTraffic sends packets everywhere and looks at the wires meanwhile.
func checkTraffic(ctx context.Context, l *lab.Lab, out *screen.Screen) error {
	out.Title("traffic, with a capture on every worker's wire")
	tap, err := l.Tap()
	if err != nil {
		return err
	}
	pairs, err := l.PingPods(ctx, 2)
	if err != nil {
		return err
	}
	out.Checked("ping, pod to pod", "%d of %d ordered pairs, no packet lost", pairs, pairs)
	if pairs, err = l.TransferPods(ctx, transferSize); err != nil {
		return err
	}
	out.Checked("TCP, pod to pod", "%d of %d ordered pairs, %d KiB each, checksums equal", pairs, pairs, transferSize>>10)
	if pairs, err = l.PingFromNodes(ctx); err != nil {
		return err
	}
	out.Checked("ping, host to remote pod", "%d of %d", pairs, pairs)
	if pairs, err = l.PingFromToRs(ctx); err != nil {
		return err
	}
	out.Checked("ping, ToR to pod", "%d of %d", pairs, pairs)
	return proveWires(tap, out)
}

// proveWires prints what the captures saw and says what it means.
func proveWires(tap *lab.Wiretap, out *screen.Screen) error {
	seen, err := tap.Stop()
	if err != nil {
		return err
	}
	rows := [][]string{{"WIRE OF", "PLAIN IN RACK", "PROTOCOL 4 ACROSS", "PROTOCOL 4 IN RACK", "PLAIN ACROSS"}}
	var sum lab.Seen
	for _, s := range seen {
		rows = append(rows, []string{s.Node, strconv.Itoa(s.PlainInRack), strconv.Itoa(s.TunnelCross), strconv.Itoa(s.TunnelIn), strconv.Itoa(s.PlainCross)})
		sum.PlainInRack += s.PlainInRack
		sum.TunnelCross += s.TunnelCross
	}
	out.Columns(rows)
	for _, s := range seen {
		if err := s.Proved(); err != nil {
			return err
		}
	}
	out.Checked("capture, inside a rack", "%d pod packets, all plain, none in protocol 4", sum.PlainInRack)
	out.Checked("capture, across racks", "%d pod packets, all in protocol 4, none plain", sum.TunnelCross)
	return nil
}

// takeDown deletes the pods and stops the agents.
func takeDown(ctx context.Context, l *lab.Lab, out *screen.Screen) error {
	out.Title("the end: CNI DEL, then SIGTERM")
	pods := l.Pods()
	for _, p := range pods {
		// Twice, as containerd does.
		if err := p.Detach(ctx); err != nil {
			return err
		}
		if err := p.Delete(ctx); err != nil {
			return err
		}
	}
	for _, n := range l.Workers() {
		if err := n.WaitClean(ctx); err != nil {
			return err
		}
	}
	out.Checked("pods deleted", "%d, each twice; no device, route or address of them is left", len(pods))
	for _, n := range l.Nodes() {
		if err := n.Stop(); err != nil {
			return err
		}
		code, err := n.Process().Wait(ctx)
		if err != nil {
			return err
		}
		if code != 0 {
			return fmt.Errorf("onlinkd of %s: exit code %d after SIGTERM, want 0", n.Name, code)
		}
	}
	out.Checked("agents stopped", "%d, exit code 0 after SIGTERM", len(l.Nodes()))
	return nil
}
