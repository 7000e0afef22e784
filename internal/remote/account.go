package remote

import (
	"errors"
	"io/fs"
)

// Account says where credentials are kept. It has nothing of them.
type Account struct {
	// Registry, or a namespace or repository of one, whose credentials they are; "" is all that are not named otherwise.
	Registry string
	// How they are kept: "password", "identity token", "registry token" or "helper NAME".
	How string
	// File says so.
	File string
}

// Accounts lists where credentials are looked for, in that order. Files that cannot be read make the error; those of the
// others are there nevertheless. No helper is asked.
func (c *Client) Accounts() ([]Account, error) {
	var all []Account
	var failed []error
	for _, name := range credentialFiles() {
		f, err := readAuthFile(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			failed = append(failed, err)
			continue
		}
		all = append(all, f.accounts()...)
	}
	return all, errors.Join(failed...)
}

func (f *authFile) accounts() []Account {
	var all []Account
	for _, key := range sortedKeys(f.credHelpers) {
		all = append(all, Account{plainKey(key), "helper " + f.credHelpers[key], f.path})
	}
	if f.credsStore != "" {
		all = append(all, Account{"", "helper " + f.credsStore, f.path})
	}
	for _, key := range sortedKeys(f.auths) {
		if how := f.auths[key].how(); how != "" {
			all = append(all, Account{plainKey(key), how, f.path})
		}
	}
	return all
}

// how an entry keeps its secret; "" where it is only the mark that a helper has it.
func (a authEntry) how() string {
	switch {
	case a.IdentityToken != "":
		return "identity token"
	case a.RegistryToken != "":
		return "registry token"
	case a.Auth != "" || a.Password != "":
		return "password"
	}
	return ""
}
