// What a consumer made of an artifact, as one JSON document on standard output. Shared by the programs beside this
// directory through links of their own.
package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Fetched is the whole answer. A refusal by the consumer is an answer too, with its own words.
type Fetched struct {
	// Which module does the work, and its version.
	Consumer string `json:"consumer"`
	// What the revision was resolved to: a digest.
	Revision string `json:"revision,omitempty"`
	// The manifest's annotations, as the consumer shows them.
	Annotations map[string]string `json:"annotations,omitempty"`
	// What it wrote, by path.
	Tree []Entry `json:"tree"`
	// Why it did not.
	Error *Failure `json:"error,omitempty"`
}

// Entry is a file, a directory or a link that the consumer wrote.
type Entry struct {
	Path string `json:"path"`
	// "file", "directory", "link" or "other"
	Kind   string `json:"kind"`
	Mode   string `json:"mode"`
	Size   int64  `json:"size"`
	Sha256 string `json:"sha256,omitempty"`
	Target string `json:"target,omitempty"`
	// Where the consumer passes the tree on: whether it leaves this file out.
	Dropped bool `json:"dropped,omitempty"`
}

// Failure says in which step the consumer gave up.
type Failure struct {
	// "resolve", "manifest" or "extract"
	Step    string `json:"step"`
	Message string `json:"message"`
}

// treeOf lists what is below root, sorted by path.
func treeOf(root string) ([]Entry, error) {
	entries := []Entry{}
	err := filepath.WalkDir(root, func(path string, found fs.DirEntry, err error) error {
		if err != nil || path == root {
			return err
		}
		relative, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		info, err := found.Info()
		if err != nil {
			return err
		}
		entry := Entry{Path: filepath.ToSlash(relative), Mode: fmt.Sprintf("%04o", info.Mode().Perm())}
		switch {
		case info.Mode().IsRegular():
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			sum := sha256.Sum256(content)
			entry.Kind, entry.Size, entry.Sha256 = "file", info.Size(), hex.EncodeToString(sum[:])
		case info.IsDir():
			entry.Kind = "directory"
		case info.Mode()&fs.ModeSymlink != 0:
			entry.Kind = "link"
			if entry.Target, err = os.Readlink(path); err != nil {
				return err
			}
		default:
			entry.Kind = "other"
		}
		entries = append(entries, entry)
		return nil
	})
	return entries, err
}

// answer prints it and ends the program: with 0 also for a refusal, which is what the caller wants to know.
func answer(fetched Fetched) {
	if fetched.Tree == nil {
		fetched.Tree = []Entry{}
	}
	encoder := json.NewEncoder(os.Stdout)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(fetched); err != nil {
		fail(err)
	}
	os.Exit(0)
}

// fail is for what has nothing to do with the artifact.
func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}
