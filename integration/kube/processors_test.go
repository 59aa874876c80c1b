package kube

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"onlink/integration/labtest"
)

// tick is the unit of /proc/stat (proc(5), USER_HZ).
const tick = 10 * time.Millisecond

// process is one process that runs.
type process struct {
	name  string
	spent time.Duration // of the processors, by itself
}

// processors are readings of the machine's processor time: of every process, by its
// identifier and start, and of all together.
type processors struct {
	running map[string]process
	busy    time.Duration
}

// readProcessors reads /proc (proc_stat(5), proc_pid_stat(5)).
func readProcessors(t *testing.T) processors {
	t.Helper()
	text, err := os.ReadFile("/proc/stat")
	labtest.Must(t, err)
	out := processors{running: map[string]process{}}
	for i, f := range strings.Fields(strings.SplitN(string(text), "\n", 2)[0])[1:9] {
		if i != 3 && i != 4 { // idle and iowait
			out.busy += ticks(t, f)
		}
	}
	files, err := filepath.Glob("/proc/[0-9]*/stat")
	labtest.Must(t, err)
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // it ended meanwhile
		}
		open, end := bytes.IndexByte(text, '('), bytes.LastIndexByte(text, ')')
		f := strings.Fields(string(text[end+1:]))
		out.running[file+" "+f[19]] = process{string(text[open+1 : end]), ticks(t, f[11]) + ticks(t, f[12])}
	}
	return out
}

func ticks(t *testing.T, field string) time.Duration {
	t.Helper()
	n, err := strconv.ParseInt(field, 10, 64)
	labtest.Must(t, err)
	return time.Duration(n) * tick
}

// whole is the name of the sum over all programs, brief that of the processes that did
// not run at both readings, such as plugins, and of interrupts.
const whole, brief = "all", "brief processes"

// since returns the time that each program took since another reading.
func (p processors) since(before processors) map[string]time.Duration {
	out := map[string]time.Duration{whole: p.busy - before.busy}
	out[brief] = out[whole]
	for id, now := range p.running {
		if was, both := before.running[id]; both {
			out[now.name] += now.spent - was.spent
			out[brief] -= now.spent - was.spent
		}
	}
	return out
}

// perPod writes the times of the programs that took the most, each for one of so many
// pods. rounds are several readings: the median of each program counts.
func perPod(rounds []map[string]time.Duration, pods int) string {
	of := map[string][]time.Duration{}
	for _, r := range rounds {
		for name := range r {
			of[name] = nil
		}
	}
	took := map[string]time.Duration{}
	for name := range of {
		for _, r := range rounds {
			of[name] = append(of[name], r[name])
		}
		took[name] = median(of[name]) / time.Duration(pods)
	}
	names := slices.SortedFunc(maps.Keys(took), func(a, b string) int { return cmp.Or(cmp.Compare(took[b], took[a]), cmp.Compare(a, b)) })
	var out []string
	for _, name := range names {
		if took[name] >= 500*time.Microsecond {
			out = append(out, fmt.Sprintf("%s %.1f", name, float64(took[name])/float64(time.Millisecond)))
		}
	}
	return strings.Join(out, ", ") + " ms"
}
