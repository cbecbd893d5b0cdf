"""Tests of the imitation of the vendor, through real HTTP."""
