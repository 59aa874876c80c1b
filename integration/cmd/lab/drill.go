package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"

	"onlink/integration/docs"
	"onlink/integration/screen"
)

// drillPage is the page with the breakages and their solutions.
const drillPage = "docs/drill.md"

// drill builds the rack of the page, breaks it, and opens a shell to mend it. The rack
// needs no tunnel, so it runs on this machine's kernel.
func (o options) drill(ctx context.Context, args []string) error {
	if os.Geteuid() != 0 {
		return errors.New("network namespaces need root: run it with sudo")
	}
	text, err := os.ReadFile(drillPage)
	if err != nil {
		return fmt.Errorf("read the drill (run it inside onlink's source tree): %w", err)
	}
	blocks, err := docs.Parse(drillPage, string(text))
	if err != nil {
		return err
	}
	bed, err := docs.BedOf(drillPage, string(text))
	if err != nil {
		return err
	}
	var breakages []*docs.Block
	for _, b := range blocks {
		if b.Break > 0 {
			breakages = append(breakages, b)
		}
	}
	number := 1 + rand.IntN(len(breakages))
	if len(args) > 0 {
		if number, err = strconv.Atoi(args[0]); err != nil || number < 1 || number > len(breakages) {
			return fmt.Errorf("breakage %q: use 1 to %d", args[0], len(breakages))
		}
	}
	out := screen.New(os.Stdout)
	p := &programs{bin: o.bin}
	if p.bin == "" {
		if err := p.build(ctx, o, out); err != nil {
			return err
		}
		defer p.remove()
	}
	return drillOn(ctx, p.bin, bed, breakages[number-1], out)
}

// drillOn makes the rack, breaks it and waits until the shell ends.
func drillOn(ctx context.Context, bin string, bed docs.Bed, b *docs.Block, out *screen.Screen) (err error) {
	hosts, err := bed.Make(ctx, "drill", bin)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, hosts.Close()) }()
	m, err := hosts.Machine(b.On)
	if err != nil {
		return err
	}
	for _, c := range b.Commands() {
		if _, err := m.Run(ctx, c); err != nil {
			return fmt.Errorf("break it: %w", err)
		}
	}
	out.Title("something is broken: the pod 10.244.125.64 on r1n1 does not reach the pod 10.244.103.0 on r1n2")
	out.Say("this is r1n1; begin with `onlinkctl explain 10.244.103.0`; `enter r1n2` goes to another host, `exit` leaves it; %s has the solutions", drillPage)
	return hosts.Shell(ctx, "r1n1")
}
