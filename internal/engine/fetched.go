package engine

import "path/filepath"

// fetchDir keeps what builds fetched: downloads and git repositories.
func (e *Engine) fetchDir() string { return filepath.Join(e.cacheDir(), "fetch") }
