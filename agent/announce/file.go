package announce

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"onlink/internal/atomicfile"
)

// fileName is the file in paths.state.
const fileName = "announcements"

// line is one line of the file: an announcement or a rejection, each complete in
// itself, so that a damaged line costs no other.
type line struct {
	Owner    string        `json:"owner"`
	Changed  time.Time     `json:"changed"`
	Boot     string        `json:"boot,omitempty"`
	Announce *Announcement `json:"announce,omitempty"`
	Rejected *Rejection    `json:"rejected,omitempty"`
}

// save replaces the file.
func save(path string, sets []Set) error {
	var b bytes.Buffer
	out := json.NewEncoder(&b)
	for i := range sets {
		s := &sets[i]
		for j := range s.Announcements {
			if err := out.Encode(line{Owner: s.Owner, Changed: s.Changed, Boot: s.Boot, Announce: &s.Announcements[j]}); err != nil {
				return err
			}
		}
		for j := range s.Rejected {
			if err := out.Encode(line{Owner: s.Owner, Changed: s.Changed, Boot: s.Boot, Rejected: &s.Rejected[j]}); err != nil {
				return err
			}
		}
	}
	return atomicfile.Replace(path, b.Bytes(), 0o600)
}

// load reads the file. A damaged one is moved aside, with a problem for the
// operator; its intact lines are used, because what they announce would be
// withdrawn otherwise.
func load(path string) (sets []Set, problem string, err error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, "", nil
	}
	if err != nil {
		return nil, "", fmt.Errorf("read announcements: %w", err)
	}
	sets, broken := read(text)
	if broken == 0 {
		return sets, "", nil
	}
	aside := path + ".damaged"
	if err := os.Rename(path, aside); err != nil {
		return nil, "", fmt.Errorf("move damaged announcements aside: %w", err)
	}
	if err := save(path, sets); err != nil {
		return nil, "", fmt.Errorf("write announcements: %w", err)
	}
	n := 0
	for i := range sets {
		n += len(sets[i].Announcements)
	}
	return sets, fmt.Sprintf("%d lines of %s are damaged, and their announcements are withdrawn until their owner sends them again; %d others are in force (the file is kept as %s)", broken, path, n, filepath.Base(aside)), nil
}

// read returns the sets of a file, and the number of lines that are damaged.
func read(text []byte) (sets []Set, broken int) {
	at := map[string]int{}
	seen := map[string]bool{} // prefixes
	for one := range bytes.Lines(text) {
		whole := bytes.HasSuffix(one, []byte("\n"))
		var l line
		if !whole || decode(one, &l) != nil || !ownerForm.MatchString(l.Owner) || (l.Announce == nil) == (l.Rejected == nil) {
			broken++
			continue
		}
		if a := l.Announce; a != nil {
			p, why := prefixOf(a.Prefix.String())
			if why != "" || a.fault() != "" || seen[p.String()] {
				broken++
				continue
			}
			seen[p.String()] = true
		}
		i, known := at[l.Owner]
		if !known {
			if len(sets) >= MaxOwners {
				broken++
				continue
			}
			i = len(sets)
			at[l.Owner] = i
			sets = append(sets, Set{Owner: l.Owner})
		}
		s := &sets[i]
		s.Changed, s.Boot = l.Changed, l.Boot
		if l.Rejected != nil {
			s.Rejected = append(s.Rejected, *l.Rejected)
		} else {
			s.Announcements = append(s.Announcements, *l.Announce)
		}
	}
	return sets, broken
}

func decode(text []byte, l *line) error {
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	return d.Decode(l)
}
