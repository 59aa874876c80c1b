package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// starts runs the small launcher in the namespace and returns the wall
// milliseconds and peak MB of every start of a program.
func (r *run) starts(ctx context.Context, s *space, count int, stdin, program string, env ...string) (wall, peak samples, err error) {
	cmd := exec.CommandContext(ctx, filepath.Join(r.bin, "launch"), strconv.Itoa(count), stdin, filepath.Join(r.bin, program))
	cmd.Env = env
	var out, text bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &text
	if err := s.do(cmd.Run); err != nil {
		return nil, nil, fmt.Errorf("start %s many times: %w: %s", program, err, text.String())
	}
	for line := range strings.Lines(out.String()) {
		var ns, kb float64
		if _, err := fmt.Sscan(line, &ns, &kb); err != nil {
			return nil, nil, fmt.Errorf("read launcher's output: %w", err)
		}
		wall, peak = append(wall, ns/1e6), append(peak, kb/1024)
	}
	if len(wall) != count {
		return nil, nil, fmt.Errorf("launcher started %s %d times, want %d", program, len(wall), count)
	}
	return wall, peak, nil
}

// shimFigures: what starting the shim costs, with one call of the agent that
// does no work there (STATUS), next to a Go program that does nothing.
func shimFigures(ctx context.Context, r *run) (err error) {
	b, err := r.newCNIBed(ctx, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.close()) }()
	conf := filepath.Join(r.dir, "status.json")
	text := fmt.Sprintf(`{"cniVersion":"1.1.0","name":"onlink","type":"onlink-cni","socket":%q}`, r.cniSocket("near"))
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		return fmt.Errorf("write network configuration: %w", err)
	}
	var wall, peak, emptyWall, emptyPeak samples
	// Few at a time, in turns: a slow moment of the machine must hit both sides.
	const few, turns = 20, 20
	err = r.rounds(ctx, func(ctx context.Context) error {
		var w, p, emptyW, emptyP samples
		for range turns {
			took, used, err := r.starts(ctx, b.pair.near, few, conf, "onlink-cni", "CNI_COMMAND=STATUS", "CNI_PATH="+r.bin)
			if err != nil {
				return err
			}
			w, p = append(w, took...), append(p, used...)
			if took, used, err = r.starts(ctx, b.pair.near, few, conf, "empty"); err != nil {
				return err
			}
			emptyW, emptyP = append(emptyW, took...), append(emptyP, used...)
		}
		wall, peak = append(wall, w.median()), append(peak, p.median())
		emptyWall, emptyPeak = append(emptyWall, emptyW.median()), append(emptyPeak, emptyP.median())
		return nil
	})
	if err != nil {
		return err
	}
	r.report("cni.shim", "ms", wall, versus{name: "empty Go program", samples: emptyWall})
	r.report("cni.shim_rss", "MB", peak, versus{name: "empty Go program", samples: emptyPeak})
	return nil
}
