"""Tests of the vendor simulator over real HTTP."""
