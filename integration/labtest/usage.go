package labtest

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"onlink/integration/lab"
)

// Usage is what an agent's process has.
type Usage struct {
	Goroutines, Files float64
	Memory            float64 // resident, in bytes
}

// errUsage says that metrics lack a figure of the process.
var errUsage = errors.New("metrics of the process are missing")

// UsageOf reads a node's metrics.
func UsageOf(ctx context.Context, n *lab.Node) (u Usage, err error) {
	text, err := Metrics(ctx, n)
	if err != nil {
		return u, err
	}
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		for metric, to := range map[string]*float64{"go_goroutines": &u.Goroutines, "process_open_fds": &u.Files, "process_resident_memory_bytes": &u.Memory} {
			if name != metric {
				continue
			}
			if *to, err = strconv.ParseFloat(value, 64); err != nil {
				return u, fmt.Errorf("metric %s: %w", metric, err)
			}
		}
	}
	if u.Goroutines == 0 || u.Files == 0 || u.Memory == 0 {
		return u, fmt.Errorf("%w of %s: %+v", errUsage, n.Name, u)
	}
	return u, nil
}
