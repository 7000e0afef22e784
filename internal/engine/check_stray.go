package engine

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"strata/internal/atomicfile"
	"strata/internal/errdef"
	"strata/internal/oci"
)

// youngFile is how long a file that is nobody's may be one that some process is just writing.
const youngFile = 10 * time.Minute

// stray is a file in the store that is nobody's.
type stray struct{ path, why string }

func checkStrays(ctx context.Context, c *checker) error {
	if err := c.clearLayerTemps(); err != nil {
		return err
	}
	list, err := c.strays()
	for _, s := range list {
		rel, rerr := filepath.Rel(c.opts.Root, s.path)
		if rerr != nil {
			return rerr
		}
		c.report.fault("file "+rel, fmt.Errorf("%s", s.why), func(context.Context) (string, error) {
			trash, err := c.trash()
			if err != nil {
				return "", err
			}
			return "removed", ignoreMissing(moveAside(s.path, trash))
		})
	}
	return errors.Join(err, ctx.Err())
}

// clearLayerTemps removes what processes that were killed while they wrote a layer's record left beside it. A sweep does not look
// into every layer for it.
func (c *checker) clearLayerTemps() error {
	files, err := fs.Glob(os.DirFS(c.opts.Root), "layers/*/.tmp-*")
	for _, file := range files {
		file = filepath.Join(c.opts.Root, file)
		if fi, serr := os.Lstat(file); serr == nil && time.Since(fi.ModTime()) >= youngFile {
			err = errors.Join(err, ignoreGone(os.Remove(file)))
		}
	}
	return err
}

// moveAside renames a file or a directory into dir under a name of its own.
func moveAside(path, dir string) error {
	aside, err := os.MkdirTemp(dir, "stray-*")
	if err != nil {
		return err
	}
	err = os.Rename(path, filepath.Join(aside, "it"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// strays lists what is in the store's directories and belongs there to nobody.
func (c *checker) strays() ([]stray, error) {
	var all []stray
	look := func(dir, why string, fine func(e os.DirEntry) bool) error {
		entries, err := os.ReadDir(filepath.Join(c.opts.Root, dir))
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		for _, e := range entries {
			if !fine(e) && !young(e) {
				all = append(all, stray{filepath.Join(c.opts.Root, dir, e.Name()), why})
			}
		}
		return err
	}
	isRecord := func(e os.DirEntry) bool {
		name := e.Name()
		if strings.HasSuffix(name, ".lock") {
			return true
		}
		return strings.HasSuffix(name, ".json") && !atomicfile.IsTemp(name)
	}
	containers := filepath.Join(c.opts.Root, "containers")
	err := errors.Join(
		look(".", "no store has such a file", func(e os.DirEntry) bool { return storeDirs[e.Name()] || strings.HasSuffix(e.Name(), ".lock") }),
		look("blobs/sha256", "it is no blob", func(e os.DirEntry) bool { return oci.IsHex(e.Name()) && len(e.Name()) == 64 && e.Type().IsRegular() }),
		look("layers", "it is no layer", func(e os.DirEntry) bool {
			return oci.IsHex(e.Name()) && len(e.Name()) == 64 && e.IsDir() || e.Name() == ".lock"
		}),
		look("images", "it is no record", isRecord),
		look("refs", "it is no record", isRecord),
		look("bases", "it is no record", isRecord),
		look("containers", "no container has it", func(e os.DirEntry) bool {
			if isRecord(e) || e.Name() == "names" || e.Name() == "ids" {
				return true
			}
			_, err := os.Lstat(filepath.Join(containers, e.Name()+".json"))
			return err == nil
		}),
		look("trash", "the sweep could not delete it", func(os.DirEntry) bool { return false }),
	)
	return all, err
}

// young reports whether a file changed so lately that some process may be writing it.
func young(e os.DirEntry) bool {
	fi, err := e.Info()
	return err != nil || time.Since(fi.ModTime()) < youngFile
}

// checkMounts finds what of the store is mounted where every process sees it: strata mounts in namespaces of its own, which
// end with their processes. Volumes may lie on other disks.
func checkMounts(ctx context.Context, c *checker) error {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) < 5 {
			continue
		}
		at := unescapeMount(fields[4])
		rel, ok := strings.CutPrefix(at, c.opts.Root+"/")
		if !ok || strings.HasPrefix(rel, "volumes/") {
			continue
		}
		c.report.fault("mount "+at, fmt.Errorf("left by a process that is gone: %w", errdef.ErrConflict), func(context.Context) (string, error) {
			return "unmounted", unix.Unmount(at, unix.MNT_DETACH)
		})
	}
	return ctx.Err()
}

// unescapeMount undoes what the kernel does to spaces and their like in mountinfo.
func unescapeMount(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}
