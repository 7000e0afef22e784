package beside

import (
	"os"
	"path/filepath"
)

// Find gives the path of one of strata's programs, "" if it is not there.
func Find(name string) string {
	self, err := os.Executable()
	if err != nil {
		return ""
	}
	return In(filepath.Dir(self), name)
}

// In is [Find] for a running program in the directory dir.
func In(dir, name string) string {
	for _, path := range []string{filepath.Join(dir, name), filepath.Join(dir, "../libexec/strata", name)} {
		if st, err := os.Stat(path); err == nil && st.Mode().IsRegular() && st.Mode()&0o111 != 0 {
			return path
		}
	}
	return ""
}
