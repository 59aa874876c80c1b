package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
)

// The parts of the folder that holds the engine.
const (
	seriesFile    = "series"
	patchesFolder = "patches"
	overlayFolder = "overlay"
)

// series is what this folder adds to the engine's module: new files, and
// patches of the module's own files.
type series struct {
	// preamble are the comments at the head of the series file.
	preamble string
	// module and version name what the patches are for.
	module, version string
	// groups holds the headings of the series file: what a group is for, by name.
	groups  map[string]string
	overlay []file // sorted by name
	patches []patch
}

// file is a new file, by its path in the module with slashes.
type file struct{ name, text string }

// patch is a change of the module's own files.
type patch struct {
	group, name string
	// header says what the patch is for; it ends without a line break.
	header string
	// diff is a unified diff as git writes it, without the lines that name blobs.
	diff string
}

// id names a patch as the file does, and the commit of the edit tree.
func (p patch) id() string { return p.group + "/" + p.name }

// text is the patch as a file.
func (p patch) text() string { return p.header + "\n\n" + p.diff }

// filename is the path of the patch below the engine's folder, with slashes.
func (p patch) filename() string { return path.Join(patchesFolder, p.group, p.name+".patch") }

var (
	heading   = regexp.MustCompile(`^\[([a-z]+)\] (\S.*)$`)
	patchWord = regexp.MustCompile(`^[a-z][a-z0-9-]*$`)
)

// readSeries reads the series file, the patches it lists and the overlay. A
// patch that no line names is an error: it would be left out silently.
func readSeries(files fs.FS) (*series, error) {
	text, err := fs.ReadFile(files, seriesFile)
	if err != nil {
		return nil, fmt.Errorf("read series: %w", err)
	}
	s := &series{groups: map[string]string{}}
	if err := s.parse(files, string(text)); err != nil {
		return nil, err
	}
	if s.module == "" || len(s.patches) == 0 {
		return nil, errors.New("read series: it names no upstream module, or no patch")
	}
	listed := map[string]bool{}
	for _, p := range s.patches {
		listed[p.filename()] = true
	}
	err = walkFiles(files, patchesFolder, func(name string) error {
		if !listed[name] {
			return fmt.Errorf("read series: it does not list %s", name)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return s, s.readOverlay(files)
}

// parse reads the lines of the series file.
func (s *series) parse(files fs.FS, text string) error {
	group, known := "", map[string]bool{}
	for i, line := range strings.Split(text, "\n") {
		m := heading.FindStringSubmatch(line)
		upstream, isUpstream := strings.CutPrefix(line, "upstream ")
		switch {
		case line == "":
		case strings.HasPrefix(line, "#") && group == "" && s.module == "":
			s.preamble += line + "\n"
		case isUpstream:
			s.module, s.version, _ = strings.Cut(upstream, " ")
		case m != nil:
			group, s.groups[m[1]] = m[1], m[2]
		case group != "" && patchWord.MatchString(line) && !known[line]:
			known[line] = true
			p, err := readPatch(files, group, line)
			if err != nil {
				return err
			}
			s.patches = append(s.patches, p)
		default:
			return fmt.Errorf("read series: line %d: %q is no comment before the first heading, no [group] heading and no new patch name", i+1, line)
		}
	}
	return nil
}

func readPatch(files fs.FS, group, name string) (patch, error) {
	p := patch{group: group, name: name}
	text, err := fs.ReadFile(files, p.filename())
	if err != nil {
		return patch{}, fmt.Errorf("read patch: %w", err)
	}
	header, _, found := strings.Cut(string(text), "\n\ndiff --git ")
	if !found {
		return patch{}, fmt.Errorf("read patch: %s has no header, or it changes no file", p.filename())
	}
	p.header, p.diff = header, string(text[len(header)+2:])
	return p, nil
}

// readOverlay reads the new files. The overlay's go.mod is none of them: it
// keeps the main module from compiling the rest.
func (s *series) readOverlay(files fs.FS) error {
	return walkFiles(files, overlayFolder, func(name string) error {
		rel := strings.TrimPrefix(name, overlayFolder+"/")
		if rel == "go.mod" {
			return nil
		}
		text, err := fs.ReadFile(files, name)
		if err != nil {
			return fmt.Errorf("read overlay: %w", err)
		}
		s.overlay = append(s.overlay, file{rel, string(text)})
		return nil
	})
}

// walkFiles calls fn with the path of every file below dir, in the order of
// the names. A folder that is not there has no files.
func walkFiles(files fs.FS, dir string, fn func(name string) error) error {
	return fs.WalkDir(files, dir, func(name string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) && name == dir {
			return fs.SkipAll
		}
		if err != nil || d.IsDir() {
			return err
		}
		return fn(name)
	})
}

// text is the series file.
func (s *series) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%supstream %s %s\n", s.preamble, s.module, s.version)
	group := ""
	for _, p := range s.patches {
		if p.group != group {
			group = p.group
			fmt.Fprintf(&b, "\n[%s] %s\n", group, s.groups[group])
		}
		b.WriteString(p.name + "\n")
	}
	return b.String()
}

// write makes the folder dir hold the series and nothing else of its kinds.
// What is right already is not touched.
func (s *series) write(dir string) error {
	want := map[string]string{seriesFile: s.text()}
	for _, p := range s.patches {
		want[p.filename()] = p.text()
	}
	for _, f := range s.overlay {
		want[path.Join(overlayFolder, f.name)] = f.text
	}
	var gone []string
	for _, sub := range []string{patchesFolder, overlayFolder} {
		err := walkFiles(os.DirFS(dir), sub, func(name string) error {
			if _, ok := want[name]; !ok && name != path.Join(overlayFolder, "go.mod") {
				gone = append(gone, name)
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("write series: %w", err)
		}
	}
	for name, text := range want {
		at := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
			return fmt.Errorf("write series: %w", err)
		}
		if err := replaceFile(at, []byte(text)); err != nil {
			return err
		}
	}
	for _, name := range gone {
		if err := os.Remove(filepath.Join(dir, filepath.FromSlash(name))); err != nil {
			return fmt.Errorf("write series: %w", err)
		}
	}
	return nil
}
