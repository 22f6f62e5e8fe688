// Package ssh stands for one that nothing here calls and that cannot be had everywhere.
package ssh
