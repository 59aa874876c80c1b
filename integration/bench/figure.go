package bench

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"text/tabwriter"
)

// Figure is one measured number next to a peer's from the same run. Lower is
// better unless the unit ends in "/s".
type Figure struct {
	Name      string   `json:"name"`
	Value     *float64 `json:"value"` // median of the rounds; null: it could not be measured, see Why
	Unit      string   `json:"unit"`
	Peer      string   `json:"peer"`
	PeerValue *float64 `json:"peer_value"`
	Ratio     *float64 `json:"ratio"` // value / peer value
	Goal      string   `json:"goal"`  // empty: for information
	Met       *bool    `json:"met"`
	Why       string   `json:"why,omitempty"` // why Ratio is null

	Min     *float64 `json:"min"`
	Max     *float64 `json:"max"`
	PeerMin *float64 `json:"peer_min"`
	PeerMax *float64 `json:"peer_max"`
	Rounds  int      `json:"rounds"`

	// Load is the share of all cores, in percent, that other programs used just before
	// the group of the figure was measured; Stolen is what the machine's host took
	// while it was.
	Load   *float64 `json:"load"`
	Stolen *float64 `json:"stolen"`
}

// samples are the measurements of one quantity, one per round.
type samples []float64

func (s samples) median() float64 {
	c := slices.Sorted(slices.Values(s))
	if n := len(c); n%2 == 0 {
		return (c[n/2-1] + c[n/2]) / 2
	}
	return c[len(c)/2]
}

// percentile returns the smallest sample that at least p percent do not exceed.
func (s samples) percentile(p float64) float64 {
	c := slices.Sorted(slices.Values(s))
	return c[max(0, int(math.Ceil(float64(len(c))*p/100))-1)]
}

// versus is a peer's samples; none, and the reason, when it could not run.
type versus struct {
	name    string
	samples samples
	why     string
}

// makeFigure computes a figure from its samples.
func makeFigure(name, unit string, ours samples, peer versus) Figure {
	f := Figure{Name: name, Unit: unit, Peer: peer.name, Why: peer.why, Rounds: len(ours)}
	if len(ours) > 0 {
		f.Value, f.Min, f.Max = round(ours.median()), round(slices.Min(ours)), round(slices.Max(ours))
	}
	if len(peer.samples) > 0 {
		f.PeerValue, f.PeerMin, f.PeerMax = round(peer.samples.median()), round(slices.Min(peer.samples)), round(slices.Max(peer.samples))
	}
	if f.Value != nil && f.PeerValue != nil && *f.PeerValue != 0 {
		f.Ratio = round(ours.median() / peer.samples.median())
	}
	if f.Ratio == nil && f.Why == "" {
		f.Why = "no peer"
	}
	g, ok := goals[name]
	if !ok {
		return f
	}
	f.Goal = g.text(unit)
	subject := f.Ratio
	if g.absolute {
		subject = f.Value
	}
	met := subject != nil && g.met(*subject)
	f.Met = &met
	return f
}

// round keeps four significant digits: more is noise.
func round(x float64) *float64 {
	if x != 0 {
		scale := math.Pow(10, 3-math.Floor(math.Log10(math.Abs(x))))
		x = math.Round(x*scale) / scale
	}
	return &x
}

// writeJSON writes the figures to path.
func writeJSON(path string, figures []Figure) error {
	text, err := json.MarshalIndent(figures, "", "  ")
	if err != nil {
		return fmt.Errorf("encode figures: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("write figures: %w", err)
	}
	if err := os.WriteFile(path, append(text, '\n'), 0o644); err != nil {
		return fmt.Errorf("write figures: %w", err)
	}
	return nil
}

// writeTable prints the figures as a Markdown table.
func writeTable(w io.Writer, figures []Figure) error {
	t := tabwriter.NewWriter(w, 0, 0, 1, ' ', 0)
	fmt.Fprintln(t, "| figure\t| onlink [min..max]\t| unit\t| peer [min..max]\t| peer is\t| ratio\t| goal\t| met\t| load\t|")
	fmt.Fprintln(t, "|---\t|---\t|---\t|---\t|---\t|---\t|---\t|---\t|---\t|")
	for _, f := range figures {
		met := ""
		if f.Met != nil {
			met = map[bool]string{true: "yes", false: "no"}[*f.Met]
		}
		peer := f.Peer
		if f.Ratio == nil {
			peer += " (" + f.Why + ")"
		}
		fmt.Fprintf(t, "| %s\t| %s\t| %s\t| %s\t| %s\t| %s\t| %s\t| %s\t| %s\t|\n", f.Name,
			spread(f.Value, f.Min, f.Max), f.Unit, spread(f.PeerValue, f.PeerMin, f.PeerMax), peer, number(f.Ratio), f.Goal, met, f.load())
	}
	return t.Flush()
}

// load returns what others used of the machine, as shown: "0.4 %", "12 % + 3 % stolen".
func (f Figure) load() string {
	if f.Load == nil {
		return "-"
	}
	out := fmt.Sprintf("%.1f %%", *f.Load)
	if f.Stolen != nil && *f.Stolen >= 0.1 {
		out += fmt.Sprintf(" + %.1f %% stolen", *f.Stolen)
	}
	return out
}

func spread(mid, low, high *float64) string {
	if mid == nil {
		return "-"
	}
	return fmt.Sprintf("%s [%s..%s]", number(mid), number(low), number(high))
}

func number(x *float64) string {
	if x == nil {
		return "-"
	}
	return fmt.Sprintf("%.4g", *x)
}
